from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.candidate import Ending
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from gan_htvs.structures.symmetry import symmetry_of
from tests.helpers import cesium_chloride, require_potential, rocksalt

SETTINGS = PotentialSettings(name="chgnet", max_steps=80, symmetry_tolerances=())


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


class Well(Calculator):
    """Energy of the anion of cesium chloride against its displacement along z from the center.

    The cell has no stress. ``minimum`` is the displacement of lowest energy, A; ``barrier`` is the
    energy of the symmetric structure relative to it, eV.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, minimum: float, barrier: float) -> None:
        super().__init__()
        self.minimum, self.barrier = minimum, barrier

    def calculate(self, atoms, properties, system_changes):
        super().calculate(atoms, properties, system_changes)
        off = np.diff(atoms.get_scaled_positions(), axis=0)[0] - 0.5
        z = ((off - off.round()) @ atoms.cell.array)[2]
        excess = (z / self.minimum) ** 2 - 1
        force = -4 * self.barrier * excess * z / self.minimum**2
        self.results = {
            "energy": self.barrier * excess**2,
            "forces": np.array([[0, 0, -force], [0, 0, force]]),
            "stress": np.zeros(6),
        }


def off_center(displacement: float) -> Structure:
    crystal = cesium_chloride()
    crystal.translate_sites([1], [0, 0, displacement], frac_coords=False)
    return crystal


def relax_in(monkeypatch, well: Well, start: Structure, **settings):
    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: well)
    return relax(start, PotentialSettings(name="chgnet", **settings))


def test_symmetrized_copy_of_higher_energy_is_not_kept(monkeypatch):
    relaxation = relax_in(monkeypatch, Well(0.05, 0.004), off_center(0.055), fmax=0.01)
    relaxed = relaxation.relaxed
    assert relaxation.ending is Ending.CONVERGED
    assert relaxed.symmetrization is None
    assert symmetry_of(relaxed.structure, 0.01).number == 99
    assert symmetry_of(relaxed.structure, 0.2).number == 221
    assert relaxed.energy_per_atom == pytest.approx(0, abs=1e-4)
    assert relaxed.n_steps == len(relaxation.curve.energies) - 1


def test_symmetrized_copy_of_lower_energy_is_kept(monkeypatch):
    # The forces at the start are below the limit.
    well, start = Well(-0.5, -0.1), off_center(0.05)
    relaxation = relax_in(monkeypatch, well, start)
    change, relaxed = relaxation.relaxed.symmetrization, relaxation.relaxed
    assert symmetry_of(relaxed.structure, 1e-4).number == 221
    assert relaxed.energy_per_atom == pytest.approx(-0.05)
    assert (change.tolerance, change.n_steps) == (0.3, 0)
    assert change.max_displacement == pytest.approx(0.025, abs=0.01)
    assert change.energy_change == pytest.approx(-0.05 * (1 - 0.99**2), rel=1e-3)
    assert relaxed.converged
    assert relaxed.n_steps == 1
    assert len(relaxation.curve.energies) == len(relaxation.curve.max_forces) == 2
    assert relaxation.curve.energies[-1] == pytest.approx(relaxed.energy_per_atom)

    off = relax_in(monkeypatch, well, start, symmetry_tolerances=()).relaxed
    assert off.symmetrization is None
    assert symmetry_of(off.structure, 0.01).number == 99


def test_error_of_the_potential_for_a_symmetrized_copy(monkeypatch):
    class Broken(Well):
        def calculate(self, atoms, properties, system_changes):
            super().calculate(atoms, properties, system_changes)
            if abs(self.results["forces"]).max() < 1e-6:
                raise ValueError("too symmetric")

    relaxation = relax_in(monkeypatch, Broken(-0.5, -0.1), off_center(0.05))
    assert relaxation.ending is Ending.CONVERGED
    assert relaxation.relaxed.symmetrization is None
    assert relaxation.relaxed.energy_per_atom == pytest.approx(-0.05 * 0.99**2)
