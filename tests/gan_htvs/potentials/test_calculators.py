from __future__ import annotations

from importlib.util import find_spec

import pytest
from ase.calculators.lj import LennardJones
from atomate2.forcefields import utils
from atomate2.forcefields.utils import MLFF

from gan_htvs.core.errors import UserError
from gan_htvs.potentials.calculators import PACKAGES, calculator_of, force_fields, known_potential


def test_every_force_field_of_atomate2_has_a_package():
    assert set(force_fields()) == set(PACKAGES)
    excluded = {MLFF.CHGNet, MLFF.SevenNet, MLFF.Forcefield}
    assert set(map(MLFF, PACKAGES)) == set(MLFF) - excluded


@pytest.mark.parametrize("name", ["CHGNet", "SevenNet", "Forcefield", "MLFF.MACE", "mace-mp-0"])
def test_unknown_name_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name}'.*chgnet.*MACE-MP-0,"):
        known_potential(name)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("MACE-MP-0", "mace", "mace-torch"), ("MatterSim", "mattersim", "mattersim")],
)
def test_missing_package_is_a_user_error(name, module, package):
    if find_spec(module):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UserError, match=f"'{name}' .* pip install {package}"):
        calculator_of(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no network:\nretried"), "OSError: no network:"),
        (TypeError("unexpected color"), "TypeError: unexpected color"),
        (ImportError("broken:\nat"), r"\(broken:\); pip install quippy-ase"),
    ],
)
def test_loading_error_is_a_user_error(monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(utils, "ase_calculator", fail)
    with pytest.raises(UserError, match=message) as raised:
        calculator_of("GAP", color="x")
    assert "\n" not in str(raised.value)


def test_equal_arguments_are_loaded_once(monkeypatch):
    loaded = []

    def load(name, **arguments):
        loaded.append((name, arguments))
        return LennardJones()

    monkeypatch.setattr(utils, "ase_calculator", load)
    first = calculator_of("M3GNet", path="a", nested={"x": [1]})
    assert calculator_of("M3GNet", nested={"x": [1]}, path="a") is first
    assert calculator_of("M3GNet", path="b", nested={"x": [1]}) is not first
    assert loaded == [
        ("M3GNet", {"stress_unit": "eV/A3", "path": path, "nested": {"x": [1]}})
        for path in ("a", "b")
    ]
