from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from jobflow import Flow, Maker, job, run_locally
from pymatgen.core import Composition, Lattice, Structure

from flows.energy import PotentialEnergyMaker
from flows.naming import formula_of, name_by_content
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import memory_store, rocksalt


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
    one = first.make(number)
    two = second.make(one.output)
    return Flow([one, two], output=two.output)


def test_equal_flows_have_equal_names_and_still_run():
    flows = [name_by_content(chain(ScaleMaker(), ScaleMaker(factor=3.0))) for _ in range(2)]
    uuids = [[each.uuid for each in flow.jobs] for flow in flows]
    assert uuids[0] == uuids[1]
    assert len(set(uuids[0])) == 2
    store = memory_store()
    run_locally(flows[0], store=store, log=False)
    assert store.get_output(flows[0].output.uuid) == 6.0


def test_names_depend_on_what_decides_the_result():
    def last(flow: Flow) -> str:
        return name_by_content(flow).output.uuid

    plain = last(chain(ScaleMaker(), ScaleMaker()))
    assert last(chain(ScaleMaker(), ScaleMaker(), number=2.0)) != plain
    assert last(chain(ScaleMaker(factor=2.5), ScaleMaker())) != plain, "of the job before"
    assert last(chain(ScaleMaker(), ScaleMaker(factor=2.5))) != plain
    other = ScaleMaker(settings=PotentialSettings(name="sevennet-0"))
    assert last(chain(ScaleMaker(), other)) != plain
    assert last(chain(ScaleMaker(), ScaleMaker(max_seconds=5))) == plain, "only how patient it is"
    assert name_by_content(chain(ScaleMaker(), ScaleMaker()), "campaign").output.uuid != plain


def test_coordinates_that_agree_to_rounding_have_one_name():
    structure = rocksalt()
    shifted = structure.copy()
    shifted.translate_sites([0], [1e-9, 0, 0])
    names = {
        name_by_content(PotentialEnergyMaker().make(each)).uuid for each in (structure, shifted)
    }
    assert len(names) == 1
    shifted.translate_sites([0], [1e-3, 0, 0])
    assert name_by_content(PotentialEnergyMaker().make(shifted)).uuid not in names


def test_moments_of_a_structure_are_part_of_the_name():
    structure = rocksalt("Mn")
    names = set()
    for moments in ([5.0, 0.0], [-5.0, 0.0]):
        structure.add_site_property("magmom", moments)
        names.add(name_by_content(PotentialEnergyMaker().make(structure.copy())).uuid)
    assert len(names) == 2


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("MgMn2O4", "MgMn2O4"), ("Mg4O4", "MgO"), ("MgH2O2", "MgH2O2"), ("Mg3P2O8", "Mg3P2O8")],
)
def test_formulas_in_names_have_no_parentheses(formula, expected):
    species = Composition(formula)
    atoms = [element for element, n in species.items() for _ in range(int(n))]
    structure = Structure(Lattice.cubic(9), atoms, [[i / 20, 0, 0] for i in range(len(atoms))])
    assert formula_of(structure) == expected
