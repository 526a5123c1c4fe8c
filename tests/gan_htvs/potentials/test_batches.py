from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from gan_htvs.potentials.batches import Batches, batches_of
from gan_htvs.potentials.calculators import calculator_of
from tests.helpers import require_potential


class FakePotential:
    """Return the number of atoms as energy; raise for Au and for more than ten atoms."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def graph(self, atoms: Atoms) -> Atoms:
        return atoms

    def size(self, graph: Atoms) -> int:
        return len(graph)

    def predict(self, graphs):
        self.sizes.append(sum(map(len, graphs)))
        if self.sizes[-1] > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any("Au" in atoms.get_chemical_symbols() for atoms in graphs):
            raise ValueError("gold")
        return [
            {"energy": float(len(atoms)), "forces": np.zeros((len(atoms), 3))} for atoms in graphs
        ]


def test_error_of_one_structure_of_a_batch():
    structures = [bulk("Cu"), bulk("Cu"), bulk("Au"), bulk("Cu"), bulk("Cu")]
    outcomes = Batches(FakePotential()).compute(structures)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert str(outcomes[2]) == "gold"
    assert outcomes[4].get_property("energy", structures[4]) == 1


def test_positions_that_are_not_finite_are_an_error():
    broken, calculator = bulk("Cu"), FakePotential()
    broken.positions[0, 1] = np.nan
    first, second = Batches(calculator).compute([broken, bulk("Cu")])
    assert isinstance(first, ArithmeticError)
    assert second.get_property("energy", bulk("Cu")) == 1
    assert calculator.sizes == [1]


def test_batches_shrink_until_they_fit_in_memory():
    calculator = FakePotential()
    potential = Batches(calculator)
    structures = [bulk("Cu") * (1, 1, n) for n in (4, 4, 4, 4, 11, 4)]
    outcomes = potential.compute(structures)
    assert [isinstance(outcome, torch.OutOfMemoryError) for outcome in outcomes] == [
        *[False] * 4,
        True,
        False,
    ]
    calculator.sizes.clear()
    assert len(potential.compute(structures[:4])) == 4
    assert max(calculator.sizes) <= 10


def test_broken_device_raises():
    class BrokenDevice(FakePotential):
        def predict(self, graphs):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        Batches(BrokenDevice()).compute([bulk("Cu"), bulk("Cu")])


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_batch_agrees_with_the_calculator(name):
    require_potential(name)
    structures = [
        bulk("MgO", "rocksalt", a=4.3),
        bulk("NaCl", "rocksalt", a=5.6, cubic=True),
        bulk("Fe", a=2.9) * (1, 1, 2),
    ]
    for atoms in structures:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.eye(3, k=1)), scale_atoms=True)
        atoms.rattle(0.05, seed=3)
    potential = batches_of(name, "cpu")
    outcomes = potential.compute(structures)
    calculator = calculator_of(name)
    for atoms, outcome in zip(structures, outcomes, strict=True):
        atoms.calc = calculator
        for quantity in ("energy", "forces", "stress"):
            assert outcome.get_property(quantity, atoms) == pytest.approx(
                calculator.get_property(quantity, atoms), abs=2e-4
            )
        assert np.abs(atoms.get_forces()).max() > 0.01
        assert np.ptp(atoms.get_stress()) > 1e-3
    (outcome,) = potential.compute(structures[:1])
    assert outcome.get_property("energy", structures[0]) == pytest.approx(
        structures[0].get_potential_energy(), abs=1e-4
    )
