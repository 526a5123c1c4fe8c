from __future__ import annotations

import pytest
from ase.calculators.lj import LennardJones
from atomate2.forcefields import utils
from atomate2.forcefields.utils import MLFF
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from flows.energy import PotentialEnergyMaker
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import CHGNET, memory_store, rocksalt


def test_the_energy_of_a_structure_is_the_same_on_every_path():
    """As a candidate, as a reference phase, and by the relaxer that training sets use."""
    from gan_htvs.potentials.relaxation import Relaxations

    maker, store = PotentialEnergyMaker(), memory_store()
    candidate, phases = maker.make(rocksalt()), maker.make_references({"MgO": rocksalt()})
    for work in (candidate, phases):
        run_locally(work, store=store, log=False)
    energies = [
        store.get_output(candidate.uuid, load=True)["energy_per_atom"],
        store.get_output(phases.uuid, load=True)["MgO"]["energy_per_atom"],
        Relaxations(maker.potential).relax([rocksalt()])[0].energy_per_atom,
    ]
    assert energies == pytest.approx([energies[0]] * 3, abs=1e-6)
    assert maker.level_of_theory == CHGNET


def test_a_relaxation_that_does_not_converge_is_a_failure_with_a_reason():
    maker = PotentialEnergyMaker(potential=PotentialSettings(max_steps=1, fmax=1e-6))
    relaxing = maker.make(rocksalt(length=4.6))
    outputs = run_locally(relaxing, log=False)
    failure = outputs[relaxing.uuid][1].output
    assert isinstance(failure, CalculationFailure)
    assert failure.reason == "relaxation not converged after 1 steps"
    assert failure.job == relaxing.uuid


def test_structures_that_cannot_be_computed_are_refused_when_the_job_is_made():
    half = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Mn": 0.5}], [[0, 0, 0]])
    with pytest.raises(UserError, match="partly occupied"):
        PotentialEnergyMaker().make(half)
    with pytest.raises(UserError, match="no atoms"):
        PotentialEnergyMaker().make(Structure(Lattice.cubic(4), [], []))


def test_reference_phases_resume_where_they_were_interrupted(scratch, monkeypatch):
    maker = PotentialEnergyMaker()
    phases = {
        "MgO": rocksalt(),
        "Mg": Structure(
            Lattice.hexagonal(3.2, 5.2), ["Mg"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
        ),
    }
    first = maker.make_references(phases)
    run_locally(first, log=False)
    (journal,) = scratch.glob("relaxations-*.jsonl")
    lines = journal.read_text().splitlines()
    journal.write_text(f"{lines[0]}\n{lines[1][:100]}")
    again = maker.make_references(phases)
    outputs = run_locally(again, log=False)
    assert all(each.converged for each in outputs[again.uuid][1].output.values())
    assert len(journal.read_text().splitlines()) == 2


def stretched_mno():
    return rocksalt("Mn", 4.7)


def relax_alone(**settings):
    relaxing = PotentialEnergyMaker(potential=PotentialSettings(**settings)).make(stretched_mno())
    outputs = run_locally(relaxing, log=False)
    return outputs[relaxing.uuid][1].output


def test_manganosite_relaxes_to_its_lattice_constant_and_moment():
    result = relax_alone()
    assert result.converged
    lattice_constant = (4 * result.structure.volume) ** (1 / 3)
    assert lattice_constant == pytest.approx(4.45, rel=0.02)  # experiment: 4.446 A
    assert result.volume_change == pytest.approx(result.structure.volume / 25.96 - 1, abs=1e-3)
    assert max(result.magmoms) > 4  # high-spin Mn2+


def test_sevennet_energies_are_corrected_and_labeled():
    pytest.importorskip("sevenn")
    result = relax_alone(name="sevennet-0")
    assert result.level_of_theory == "SevenNet-0+MP2020"
    # MP2020: -0.687 eV for O in an oxide, -1.668 eV for Mn with U in it.
    assert result.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)
    assert result.magmoms is None


def test_a_force_field_of_atomate2_gets_its_arguments(tmp_path, monkeypatch):
    asked = []

    def loads(name, **arguments):
        asked.append((MLFF(name), arguments))
        return LennardJones(sigma=1.9, epsilon=0.5, rc=6.0)

    monkeypatch.setattr(utils, "ase_calculator", loads)
    arguments = {"model": str(tmp_path / "mine.model")}
    result = relax_alone(name="MACE-MP-0", arguments=arguments)
    assert asked == [(MLFF.MACE_MP_0, arguments)]
    assert result.level_of_theory == f"MACE-MP-0(model={tmp_path}/mine.model)+MP2020"
    assert result.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)


def test_an_energy_that_is_not_finite_is_a_failure(monkeypatch):
    class Overflowing(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.results["energy"] = float("nan")

    monkeypatch.setattr(utils, "ase_calculator", lambda *_, **__: Overflowing(sigma=1.9))
    failure = relax_alone(name="MACE-MP-0", arguments={"model": "mine"})
    assert isinstance(failure, CalculationFailure)
    assert "not finite" in failure.reason


def test_the_label_names_the_model_that_is_loaded():
    from chgnet.model import CHGNet

    version = CHGNet.load(verbose=False).version
    assert PotentialEnergyMaker().level_of_theory == f"CHGNet-{version}"
