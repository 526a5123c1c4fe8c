"""The calculators of CHGNet and SevenNet beside those that come with their packages."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from gan_htvs.potentials.calculators import CHGNET, SEVENNET_MODELS, calculator_of

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

QUANTITIES = ("energy", "forces", "stress")


def distorted() -> Atoms:
    atoms = bulk("MnO", "rocksalt", a=4.5) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.eye(3, k=1)), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def assert_same(ours, theirs, atoms: Atoms, quantities) -> None:
    for quantity in quantities:
        expected = theirs.get_property(quantity, atoms)
        assert ours.get_property(quantity, atoms) == pytest.approx(expected, abs=5e-5), quantity
        assert np.abs(expected).max() > 1e-3, quantity


def chgnet() -> Calculator:
    package = pytest.importorskip("chgnet.model")
    model = package.CHGNet.load(model_name=CHGNET, use_device="cpu", verbose=False)
    return package.CHGNetCalculator(model, use_device="cpu")


def test_chgnet_in_one_pass_is_chgnet():
    theirs = chgnet()
    ours = calculator_of("chgnet")
    assert_same(ours, theirs, distorted(), (*QUANTITIES, "magmoms"))
    assert set(ours.implemented_properties) == set(theirs.implemented_properties)


def test_chgnet_in_one_pass_warns_of_nothing():
    pytest.importorskip("chgnet.model")
    ours = calculator_of("chgnet")
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(action="error"):
            ours.get_property("forces", distorted())
    finally:
        torch.set_warn_always(False)


@pytest.mark.filterwarnings("ignore:.*isolated atom")
@pytest.mark.parametrize("separation", [None, 5.0], ids=["alone", "without angles"])
def test_chgnet_in_one_pass_computes_what_hardly_binds(separation):
    theirs = chgnet()
    atoms = Atoms("O", cell=[20, 20, 20], pbc=True)
    if separation:
        atoms += Atoms("O", [[separation, 0, 0]])
    for quantity in (*QUANTITIES, "magmoms"):
        expected = theirs.get_property(quantity, atoms)
        found = calculator_of("chgnet").get_property(quantity, atoms)
        assert found == pytest.approx(expected, abs=1e-5)


def test_sevennet_computes_the_energy_once_and_forces_when_they_are_asked_for():
    calculator = pytest.importorskip("sevenn.calculator")
    theirs = calculator.SevenNetCalculator(SEVENNET_MODELS["sevennet-0"], device="cpu")
    ours = calculator_of("sevennet-0")
    first, second = distorted(), distorted()
    second.rattle(0.1, seed=2)
    passes = []
    ours.model.get_submodule("edge_embedding").register_forward_hook(
        lambda *_: passes.append("energy")
    )
    ours.model.get_submodule("force_output").register_forward_hook(
        lambda *_: passes.append("forces")
    )
    for atoms in (first, second, first):
        passes.clear()
        assert ours.get_property("energy", atoms) == pytest.approx(
            theirs.get_property("energy", atoms), abs=1e-5
        )
        assert passes == ["energy"]
        assert_same(ours, theirs, atoms, QUANTITIES)
        assert passes == ["energy", "forces"]
    first.rattle(0.01, seed=3)
    assert_same(ours, theirs, first, ["forces"])


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_an_element_that_a_potential_does_not_know_is_named(name):
    pytest.importorskip({"chgnet": "chgnet", "sevennet-0": "sevenn"}[name])
    with pytest.raises(ValueError, match=r"not Cm|know atomic number: 96"):
        calculator_of(name).get_property("energy", bulk("Cm", "fcc", a=4.9))
