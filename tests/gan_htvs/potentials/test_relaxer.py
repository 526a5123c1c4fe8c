from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.candidate import Ending
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from tests.helpers import require_potential, rocksalt

SETTINGS = PotentialSettings(name="chgnet", max_steps=80)


def strained_mno() -> Structure:
    cell = rocksalt("Mn", 4.7) * (2, 1, 1)
    moves = np.random.default_rng(0).normal(0, 0.1, (4, 3))
    return Structure(
        cell.lattice, cell.species, cell.cart_coords + moves, coords_are_cartesian=True
    )


@pytest.fixture(scope="module")
def by_optimizer():
    return {
        name: relax(strained_mno(), SETTINGS.model_copy(update={"optimizer": name}))
        for name in ("CellAwareBFGS", "FIRE")
    }


def test_default_optimizer_takes_fewer_steps_to_the_same_energy(by_optimizer):
    default, fire = by_optimizer["CellAwareBFGS"], by_optimizer["FIRE"]
    assert default.ending is fire.ending is Ending.CONVERGED
    assert default.relaxed.energy_per_atom == pytest.approx(fire.relaxed.energy_per_atom, abs=0.01)
    assert default.relaxed.n_steps < 0.7 * fire.relaxed.n_steps


def test_curve_has_every_step(by_optimizer):
    for relaxation in by_optimizer.values():
        curve, relaxed = relaxation.curve, relaxation.relaxed
        assert len(curve.energies) == len(curve.max_forces) == len(curve.volumes)
        assert len(curve.energies) == relaxed.n_steps + 1
        assert curve.energies[-1] == pytest.approx(relaxed.energy_per_atom, abs=1e-5)
        assert curve.volumes[0] == pytest.approx(strained_mno().volume / 4, abs=1e-4)
        assert curve.volumes[-1] == pytest.approx(relaxed.structure.volume / 4, abs=1e-4)
        assert all(force >= SETTINGS.fmax for force in curve.max_forces[:-1])
        assert curve.max_forces[-1] < SETTINGS.fmax
        assert relaxed.magmoms


def test_no_warning_of_the_matrix_logarithm(monkeypatch):
    cell = np.random.default_rng(0).normal(0, 5, (3, 3))
    triclinic = Structure(cell, ["O"] * 64, np.random.default_rng(1).random((64, 3)))
    monkeypatch.setattr(
        "gan_htvs.potentials.relaxer.calculator_of", lambda name: LennardJones(rc=3)
    )
    settings = SETTINGS.model_copy(update={"max_steps": 1})
    with warnings.catch_warnings(action="error"):
        relaxation = relax(triclinic, settings, is_reference=True)
    assert relaxation.ending is not Ending.RAISED, relaxation.reason
    assert len(relaxation.curve.max_forces) >= 1


def test_forces_do_not_depend_on_the_optimizer(by_optimizer):
    atoms = AseAtomsAdaptor.get_atoms(strained_mno(), msonable=False)
    atoms.calc = calculator_of("chgnet")
    expected = np.linalg.norm(FrechetCellFilter(atoms).get_forces(), axis=1).max()
    for relaxation in by_optimizer.values():
        assert relaxation.curve.max_forces[0] == pytest.approx(expected, rel=1e-4)


def test_fire_takes_the_steps_of_ase():
    atoms = AseAtomsAdaptor.get_atoms(strained_mno(), msonable=False)
    atoms.calc = calculator_of("chgnet")
    energies, volumes, forces = [], [], []
    cell_filter = FrechetCellFilter(atoms)
    with FIRE(cell_filter, logfile=None) as optimizer:
        for _ in optimizer.irun(fmax=SETTINGS.fmax, steps=8):
            energies.append(atoms.get_potential_energy() / len(atoms))
            volumes.append(atoms.get_volume() / len(atoms))
            forces.append(np.linalg.norm(cell_filter.get_forces(), axis=1).max())
    relaxation = relax(
        strained_mno(), SETTINGS.model_copy(update={"optimizer": "FIRE", "max_steps": 8})
    )
    assert relaxation.curve.energies == pytest.approx(energies, abs=1e-4)
    assert relaxation.curve.volumes == pytest.approx(volumes, rel=1e-4)
    assert relaxation.curve.max_forces == pytest.approx(forces, abs=1e-2)


def test_curve_includes_corrections():
    require_potential("sevennet-0")
    relaxation = relax(rocksalt(), PotentialSettings(name="sevennet-0", max_steps=5))
    assert relaxation.relaxed.correction_per_atom < -0.3
    assert relaxation.curve.energies[-1] == pytest.approx(
        relaxation.relaxed.energy_per_atom, abs=1e-5
    )


def test_stopping_rule_is_called_at_every_step():
    steps = []

    def stop(curve):
        steps.append(len(curve.energies) - 1)
        return "enough" if len(curve.energies) == 2 else None

    stopped = relax(strained_mno(), SETTINGS, stop=stop)
    assert steps == [0, 1]
    assert (stopped.ending, stopped.reason, stopped.would_stop_at) == (Ending.STOPPED, "enough", 1)
    assert not stopped.relaxed.converged
    audited = relax(strained_mno(), SETTINGS, stop=stop, audited=True)
    assert audited.ending is Ending.CONVERGED
    assert audited.would_stop_at == 1


def test_limit_on_steps():
    relaxation = relax(strained_mno(), SETTINGS.model_copy(update={"max_steps": 2}))
    assert relaxation.ending is Ending.OUT_OF_STEPS
    assert "2 steps" in relaxation.reason
    assert relaxation.relaxed.n_steps == 2


def test_unsound_start_takes_one_evaluation():
    clash = Structure(Lattice.cubic(4), ["Mn", "O", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0.55]])
    relaxation = relax(clash, SETTINGS)
    assert relaxation.ending is Ending.UNSOUND
    assert "atoms_too_close" in relaxation.reason
    assert len(relaxation.curve.energies) == 1


def test_forces_that_are_not_finite_have_a_reason(monkeypatch):
    class Exploding(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.results["forces"] = self.results["forces"] * np.nan

    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Exploding(rc=5))
    relaxation = relax(strained_mno(), SETTINGS)
    assert relaxation.ending in (Ending.RAISED, Ending.UNSOUND)
    assert relaxation.reason


def test_stop_at_the_start_computes_no_forces():
    require_potential("sevennet-0")
    calculator_of("sevennet-0").reset()
    stopped = relax(rocksalt(), PotentialSettings(name="sevennet-0"), stop=lambda _: "enough")
    assert (stopped.ending, stopped.would_stop_at) == (Ending.STOPPED, 0)
    assert len(stopped.curve.energies) == 1
    assert stopped.curve.max_forces == []
    assert stopped.relaxed.structure.volume == pytest.approx(rocksalt().volume)
    assert set(calculator_of("sevennet-0").results) == {"energy", "free_energy"}


def test_final_structure_has_the_final_energy_and_forces(by_optimizer):
    for relaxation in by_optimizer.values():
        atoms = AseAtomsAdaptor.get_atoms(relaxation.relaxed.structure, msonable=False)
        atoms.calc = calculator_of("chgnet")
        energy = atoms.get_potential_energy() / len(atoms)
        assert relaxation.curve.energies[-1] == pytest.approx(energy, abs=1e-4)
        forces = np.linalg.norm(FrechetCellFilter(atoms).get_forces(), axis=1)
        assert forces.max() < 1.2 * SETTINGS.fmax
