from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.descent import Ending, _CellFilter, _force_norms, descend
from gan_htvs.engines import DescentSettings
from gan_htvs.potentials import calculator_of

SETTINGS = DescentSettings(name="chgnet", max_steps=80)


def strained_mno() -> Structure:
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.7), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure() * (2, 1, 1)
    moves = np.random.default_rng(0).normal(0, 0.1, (4, 3))
    return Structure(
        cell.lattice, cell.species, cell.cart_coords + moves, coords_are_cartesian=True
    )


@pytest.fixture(scope="module")
def by_optimizer():
    return {
        name: descend(strained_mno(), SETTINGS.model_copy(update={"optimizer": name}))
        for name in ("CellAwareBFGS", "FIRE")
    }


def test_optimizers_end_at_one_energy_and_the_default_takes_fewer_steps(by_optimizer):
    ours, fire = by_optimizer["CellAwareBFGS"], by_optimizer["FIRE"]
    assert ours.ending is fire.ending is Ending.CONVERGED
    assert ours.relaxed.energy_per_atom == pytest.approx(fire.relaxed.energy_per_atom, abs=0.01)
    assert ours.relaxed.n_steps < 0.7 * fire.relaxed.n_steps


def test_the_curve_tells_every_step(by_optimizer):
    for descent in by_optimizer.values():
        curve, relaxed = descent.curve, descent.relaxed
        assert len(curve.energies) == len(curve.max_forces) == len(curve.volumes)
        assert len(curve.energies) == relaxed.n_steps + 1
        assert curve.energies[-1] == pytest.approx(relaxed.energy_per_atom, abs=1e-5)
        assert curve.volumes[0] == pytest.approx(strained_mno().volume / 4, abs=1e-4)
        assert curve.volumes[-1] == pytest.approx(relaxed.structure.volume / 4, abs=1e-4)
        assert all(force >= SETTINGS.fmax for force in curve.max_forces[:-1])
        assert curve.max_forces[-1] < SETTINGS.fmax
        assert relaxed.magmoms


def test_the_logarithm_of_no_strain_warns_of_nothing():
    triclinic = Atoms("O64", cell=np.random.default_rng(0).normal(0, 5, (3, 3)))
    with warnings.catch_warnings(action="error"):
        start = _CellFilter(triclinic, exp_cell_factor=1.0).get_positions()
    assert start[-3:] == pytest.approx(np.log(64) * np.eye(3))


def test_forces_converge_in_one_frame_whatever_the_optimizer():
    atoms = AseAtomsAdaptor.get_atoms(strained_mno(), msonable=False)
    atoms.calc = calculator_of("chgnet")
    usual = np.linalg.norm(FrechetCellFilter(atoms).get_forces(), axis=1)
    assert _force_norms(FrechetCellFilter(atoms)) == pytest.approx(usual)
    assert _force_norms(FrechetCellFilter(atoms, exp_cell_factor=1.0)) == pytest.approx(usual)


def test_corrections_stand_in_the_curve():
    pytest.importorskip("sevenn")
    rocksalt = Structure(Lattice.rhombohedral(3.0, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    descent = descend(rocksalt, DescentSettings(name="sevennet-0", max_steps=5))
    assert descent.relaxed.correction_per_atom < -0.3
    assert descent.curve.energies[-1] == pytest.approx(descent.relaxed.energy_per_atom, abs=1e-5)


def test_what_stops_it_is_asked_at_every_step_and_an_audit_only_notes_it():
    asked = []

    def stop(curve):
        asked.append(len(curve.energies) - 1)
        return "enough" if len(curve.energies) == 2 else None

    stopped = descend(strained_mno(), SETTINGS, stop=stop)
    assert asked == [0, 1]
    assert (stopped.ending, stopped.reason, stopped.would_stop_at) == (Ending.STOPPED, "enough", 1)
    assert not stopped.relaxed.converged
    audited = descend(strained_mno(), SETTINGS, stop=stop, audited=True)
    assert audited.ending is Ending.CONVERGED
    assert audited.would_stop_at == 1


def test_too_few_steps_say_so():
    descent = descend(strained_mno(), SETTINGS.model_copy(update={"max_steps": 2}))
    assert descent.ending is Ending.OUT_OF_STEPS
    assert descent.reason == "relaxation not converged after 2 steps"
    assert descent.relaxed.n_steps == 2


def test_a_structure_that_starts_unsound_costs_one_evaluation():
    clash = Structure(Lattice.cubic(4), ["Mn", "O", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0.55]])
    descent = descend(clash, SETTINGS)
    assert descent.ending is Ending.UNSOUND
    assert descent.reason == "after 0 steps: atoms_too_close"
    assert len(descent.curve.energies) == 1


def test_an_explosion_is_a_result(monkeypatch):
    class Exploding(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.results["forces"] = self.results["forces"] * np.nan

    monkeypatch.setattr("gan_htvs.descent.calculator_of", lambda name: Exploding(rc=5))
    descent = descend(strained_mno(), SETTINGS)
    assert descent.ending in (Ending.RAISED, Ending.UNSOUND)
    assert descent.reason


def test_who_is_content_with_the_start_computes_no_forces():
    pytest.importorskip("sevenn")
    rocksalt = Structure(Lattice.rhombohedral(3.0, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    calculator_of("sevennet-0").reset()
    content = descend(rocksalt, DescentSettings(name="sevennet-0"), stop=lambda _: "content")
    assert (content.ending, content.would_stop_at) == (Ending.STOPPED, 0)
    assert len(content.curve.energies) == 1
    assert content.curve.max_forces == []
    assert content.relaxed.structure.volume == pytest.approx(rocksalt.volume)
    assert set(calculator_of("sevennet-0").results) == {"energy", "free_energy"}


@pytest.mark.parametrize("exp_cell_factor", [1.0, None])
def test_the_filter_of_the_cell_is_ases_and_does_nothing_twice(exp_cell_factor):
    ours = AseAtomsAdaptor.get_atoms(strained_mno(), msonable=False)
    theirs = ours.copy()
    ours.calc = theirs.calc = calculator_of("chgnet")
    our_filter = _CellFilter(ours, exp_cell_factor=exp_cell_factor)
    their_filter = FrechetCellFilter(theirs, exp_cell_factor=exp_cell_factor)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for get in ("get_positions", "get_forces"):
            ours_now, theirs_now = getattr(our_filter, get)(), getattr(their_filter, get)()
            assert ours_now == pytest.approx(theirs_now, abs=1e-4), get
        assert ours.cell.array == pytest.approx(theirs.cell.array)
        move = rng.normal(size=our_filter.get_positions().shape, scale=0.05)
        our_filter.set_positions(our_filter.get_positions() + move)
        their_filter.set_positions(their_filter.get_positions() + move)
