"""Calculators of CHGNet and SevenNet compared with those of their packages."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from gan_htvs.potentials.calculators import CHGNET, SEVENNET_MODELS, calculator_of
from tests.helpers import require_potential

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

QUANTITIES = ("energy", "forces", "stress")


def distorted() -> Atoms:
    atoms = bulk("MnO", "rocksalt", a=4.5) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.eye(3, k=1)), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def assert_same(calculator, expected_calculator, atoms: Atoms, quantities) -> None:
    for quantity in quantities:
        expected = expected_calculator.get_property(quantity, atoms)
        assert calculator.get_property(quantity, atoms) == pytest.approx(expected, abs=5e-5), (
            quantity
        )
        assert np.abs(expected).max() > 1e-3, quantity


def chgnet() -> Calculator:
    package = pytest.importorskip("chgnet.model")
    model = package.CHGNet.load(model_name=CHGNET, use_device="cpu", verbose=False)
    return package.CHGNetCalculator(model, use_device="cpu")


def test_chgnet_agrees_with_its_package():
    expected_calculator = chgnet()
    calculator = calculator_of("chgnet")
    assert_same(calculator, expected_calculator, distorted(), (*QUANTITIES, "magmoms"))
    assert set(calculator.implemented_properties) == set(expected_calculator.implemented_properties)


def test_chgnet_does_not_warn():
    pytest.importorskip("chgnet.model")
    calculator = calculator_of("chgnet")
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(action="error"):
            calculator.get_property("forces", distorted())
    finally:
        torch.set_warn_always(False)


@pytest.mark.filterwarnings("ignore:.*isolated atom")
@pytest.mark.parametrize("separation", [None, 5.0], ids=["alone", "without angles"])
def test_chgnet_without_bonds_or_angles(separation):
    expected_calculator = chgnet()
    atoms = Atoms("O", cell=[20, 20, 20], pbc=True)
    if separation:
        atoms += Atoms("O", [[separation, 0, 0]])
    for quantity in (*QUANTITIES, "magmoms"):
        expected = expected_calculator.get_property(quantity, atoms)
        value = calculator_of("chgnet").get_property(quantity, atoms)
        assert value == pytest.approx(expected, abs=1e-5)


def test_sevennet_computes_forces_only_if_requested():
    calculator = pytest.importorskip("sevenn.calculator")
    expected_calculator = calculator.SevenNetCalculator(SEVENNET_MODELS["sevennet-0"], device="cpu")
    calculator = calculator_of("sevennet-0")
    first, second = distorted(), distorted()
    second.rattle(0.1, seed=2)
    passes = []
    calculator.model.get_submodule("edge_embedding").register_forward_hook(
        lambda *_: passes.append("energy")
    )
    calculator.model.get_submodule("force_output").register_forward_hook(
        lambda *_: passes.append("forces")
    )
    for atoms in (first, second, first):
        passes.clear()
        assert calculator.get_property("energy", atoms) == pytest.approx(
            expected_calculator.get_property("energy", atoms), abs=1e-5
        )
        assert passes == ["energy"]
        assert_same(calculator, expected_calculator, atoms, QUANTITIES)
        assert passes == ["energy", "forces"]
    first.rattle(0.01, seed=3)
    assert_same(calculator, expected_calculator, first, ["forces"])


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_unknown_element_is_an_error(name):
    require_potential(name)
    with pytest.raises(ValueError, match=r"Cm|96"):
        calculator_of(name).get_property("energy", bulk("Cm", "fcc", a=4.9))
