from __future__ import annotations

import pytest
from ase.calculators.lj import LennardJones
from atomate2.forcefields import utils
from atomate2.forcefields.utils import MLFF
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from flows.energy import PotentialEnergyMaker
from flows.engines.vasp import VaspEnergyMaker
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import CHGNET, memory_store, output_of, rocksalt


def test_candidates_references_and_training_sets_have_equal_energies():
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


def test_unconverged_relaxation_is_a_failure_with_reason():
    maker = PotentialEnergyMaker(potential=PotentialSettings(max_steps=1, fmax=1e-6))
    relax_job = maker.make(rocksalt(length=4.6))
    failure = output_of(relax_job)
    assert isinstance(failure, CalculationFailure)
    assert "not converged after 1 steps" in failure.reason
    assert failure.job == relax_job.uuid


def test_invalid_structures_are_refused_when_the_job_is_made():
    half = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Mn": 0.5}], [[0, 0, 0]])
    with pytest.raises(UserError, match="partly occupied"):
        PotentialEnergyMaker().make(half)
    with pytest.raises(UserError, match="no atoms"):
        PotentialEnergyMaker().make(Structure(Lattice.cubic(4), [], []))
    for not_finite in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="MgO: not_finite"):
            VaspEnergyMaker().make(
                Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [not_finite, 0.5, 0.5]])
            )
    with pytest.raises(UserError, match="not list"):
        PotentialEnergyMaker().make([rocksalt()])


def test_interrupted_reference_relaxations_resume(scratch):
    maker = PotentialEnergyMaker()
    phases = {
        "MgO": rocksalt(),
        "Mg": Structure(
            Lattice.hexagonal(3.2, 5.2), ["Mg"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
        ),
    }
    output_of(maker.make_references(phases))
    (journal,) = scratch.glob("relaxations-*.jsonl")
    lines = journal.read_text().splitlines()
    journal.write_text(f"{lines[0]}\n{lines[1][:100]}")
    resumed = output_of(maker.make_references(phases))
    assert all(phase.converged for phase in resumed.values())
    assert len(journal.read_text().splitlines()) == 2


def test_batches_of_reference_phases_have_equally_many_atoms(monkeypatch):
    monkeypatch.setattr("flows.energy.REFERENCES_PER_BATCH", 2)
    phases = {f"MgO {n}": rocksalt() * (1, 1, n) for n in (1, 2, 3)}
    flow = PotentialEnergyMaker().make_references(phases)
    assert [set(relax_job.function_args[0]) for relax_job in flow.jobs] == [
        {"MgO 1", "MgO 3"},
        {"MgO 2"},
    ]
    assert set(flow.output) == set(phases)


def stretched_mno():
    return rocksalt("Mn", 4.7)


def relax_mno(**settings):
    maker = PotentialEnergyMaker(potential=PotentialSettings(**settings))
    return output_of(maker.make(stretched_mno()))


def test_manganosite_relaxes_to_its_lattice_constant_and_moment():
    result = relax_mno()
    assert result.converged
    lattice_constant = (4 * result.structure.volume) ** (1 / 3)
    assert lattice_constant == pytest.approx(4.45, rel=0.02)  # experiment: 4.446 A
    assert result.volume_change == pytest.approx(result.structure.volume / 25.96 - 1, abs=1e-3)
    assert max(result.magmoms) > 4  # high-spin Mn2+


def test_sevennet_energies_are_corrected_and_labeled():
    pytest.importorskip("sevenn")
    result = relax_mno(name="sevennet-0")
    assert result.level_of_theory == "SevenNet-0+MP2020"
    # MP2020: -0.687 eV for O in an oxide, -1.668 eV for Mn with U in it.
    assert result.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)
    assert result.magmoms is None


def test_atomate2_force_field_gets_its_arguments(tmp_path, monkeypatch):
    calls = []

    def load(name, **arguments):
        calls.append((MLFF(name), arguments))
        return LennardJones(sigma=1.9, epsilon=0.5, rc=6.0)

    monkeypatch.setattr(utils, "ase_calculator", load)
    arguments = {"model": str(tmp_path / "mine.model")}
    result = relax_mno(name="MACE-MP-0", arguments=arguments)
    assert calls == [(MLFF.MACE_MP_0, arguments)]
    assert result.level_of_theory == f"MACE-MP-0(model={tmp_path}/mine.model)+MP2020"
    assert result.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)


def test_non_finite_energy_is_a_failure(monkeypatch):
    class Overflowing(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.results["energy"] = float("nan")

    monkeypatch.setattr(utils, "ase_calculator", lambda *_, **__: Overflowing(sigma=1.9))
    failure = relax_mno(name="MACE-MP-0", arguments={"model": "mine"})
    assert isinstance(failure, CalculationFailure)
    assert "not finite" in failure.reason


def test_level_of_theory_has_version_of_loaded_model():
    from chgnet.model import CHGNet

    version = CHGNet.load(verbose=False).version
    assert PotentialEnergyMaker().level_of_theory == f"CHGNet-{version}"
