from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from jobflow import Flow, Maker, job
from pymatgen.core import Composition, Lattice, Structure

from flows.energy import PotentialEnergyMaker
from flows.naming import formula_of, name_by_content
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import output_of, rocksalt


@dataclass
class ScaleMaker(Maker):
    name: str = "scale"
    factor: float = 2.0
    max_seconds: int = 60
    settings: PotentialSettings = field(default_factory=PotentialSettings)

    @job
    def make(self, number: float, structure: Structure | None = None) -> float:
        return self.factor * number


def chain(first: ScaleMaker, second: ScaleMaker, number: float = 1.0) -> Flow:
    first_job = first.make(number)
    second_job = second.make(first_job.output)
    return Flow([first_job, second_job], output=second_job.output)


def test_equal_flows_have_equal_uuids_and_run():
    flows = [name_by_content(chain(ScaleMaker(), ScaleMaker(factor=3.0))) for _ in range(2)]
    uuids = [[job_.uuid for job_ in flow.jobs] for flow in flows]
    assert uuids[0] == uuids[1]
    assert len(set(uuids[0])) == 2
    assert output_of(flows[0]) == 6.0


def test_uuids_depend_on_function_maker_and_arguments():
    def last_uuid(flow: Flow) -> str:
        return name_by_content(flow).output.uuid

    plain = last_uuid(chain(ScaleMaker(), ScaleMaker()))
    assert last_uuid(chain(ScaleMaker(), ScaleMaker(), number=2.0)) != plain
    assert last_uuid(chain(ScaleMaker(factor=2.5), ScaleMaker())) != plain, (
        "a setting of the first job"
    )
    assert last_uuid(chain(ScaleMaker(), ScaleMaker(factor=2.5))) != plain
    other = ScaleMaker(settings=PotentialSettings(name="sevennet-0"))
    assert last_uuid(chain(ScaleMaker(), other)) != plain
    assert last_uuid(chain(ScaleMaker(), ScaleMaker(max_seconds=5))) == plain, "only a time limit"
    assert name_by_content(chain(ScaleMaker(), ScaleMaker()), "campaign").output.uuid != plain


def test_uuids_ignore_rounding_of_coordinates():
    structure = rocksalt()
    shifted = structure.copy()
    shifted.translate_sites([0], [1e-9, 0, 0])
    uuids = {
        name_by_content(PotentialEnergyMaker().make(crystal)).uuid
        for crystal in (structure, shifted)
    }
    assert len(uuids) == 1
    shifted.translate_sites([0], [1e-3, 0, 0])
    assert name_by_content(PotentialEnergyMaker().make(shifted)).uuid not in uuids


def test_uuids_depend_on_magnetic_moments():
    structure = rocksalt("Mn")
    uuids = set()
    for moments in ([5.0, 0.0], [-5.0, 0.0]):
        structure.add_site_property("magmom", moments)
        uuids.add(name_by_content(PotentialEnergyMaker().make(structure.copy())).uuid)
    assert len(uuids) == 2


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("MgMn2O4", "MgMn2O4"), ("Mg4O4", "MgO"), ("MgH2O2", "MgH2O2"), ("Mg3P2O8", "Mg3P2O8")],
)
def test_formulas_in_names_have_no_parentheses(formula, expected):
    species = Composition(formula)
    atoms = [element for element, n in species.items() for _ in range(int(n))]
    structure = Structure(Lattice.cubic(9), atoms, [[i / 20, 0, 0] for i in range(len(atoms))])
    assert formula_of(structure) == expected
