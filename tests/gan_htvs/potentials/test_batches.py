from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from gan_htvs.potentials.batches import Batches, batches_of
from gan_htvs.potentials.calculators import calculator_of


class Counted:
    """Knows the number of atoms, cannot abide gold, and has memory for ten atoms."""

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


def test_one_that_raises_is_found_among_many():
    structures = [bulk("Cu"), bulk("Cu"), bulk("Au"), bulk("Cu"), bulk("Cu")]
    outcomes = Batches(Counted()).compute(structures)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert str(outcomes[2]) == "gold"
    assert outcomes[4].get_property("energy", structures[4]) == 1


def test_what_is_not_finite_never_reaches_the_batch():
    broken, calculator = bulk("Cu"), Counted()
    broken.positions[0, 1] = np.nan
    first, second = Batches(calculator).compute([broken, bulk("Cu")])
    assert isinstance(first, ArithmeticError)
    assert second.get_property("energy", bulk("Cu")) == 1
    assert calculator.sizes == [1]


def test_batches_shrink_once_until_they_fit_and_one_too_large_for_any_is_alone():
    calculator = Counted()
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
    assert max(calculator.sizes) <= 10, "it remembers"


def test_a_broken_device_is_no_fault_of_a_structure():
    class Gone(Counted):
        def predict(self, graphs):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        Batches(Gone()).compute([bulk("Cu"), bulk("Cu")])


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_structures_of_a_batch_are_computed_as_if_alone(name):
    pytest.importorskip({"chgnet": "chgnet", "sevennet-0": "sevenn"}[name])
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
    alone = calculator_of(name)
    for atoms, together in zip(structures, outcomes, strict=True):
        atoms.calc = alone
        for quantity in ("energy", "forces", "stress"):
            assert together.get_property(quantity, atoms) == pytest.approx(
                alone.get_property(quantity, atoms), abs=2e-4
            )
        assert np.abs(atoms.get_forces()).max() > 0.01
        assert np.ptp(atoms.get_stress()) > 1e-3
    (once,) = potential.compute(structures[:1])
    assert once.get_property("energy", structures[0]) == pytest.approx(
        structures[0].get_potential_energy(), abs=1e-4
    )
