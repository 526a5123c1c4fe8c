from __future__ import annotations

from importlib.util import find_spec

import pytest
from ase.calculators.lj import LennardJones
from atomate2.forcefields import utils
from atomate2.forcefields.utils import MLFF

from gan_htvs.core.errors import UserError
from gan_htvs.potentials import calculators as potentials
from gan_htvs.potentials.calculators import PACKAGES, calculator_of, force_fields, known_potential


def test_every_force_field_of_atomate2_has_a_package_or_a_name_here():
    assert set(force_fields()) == set(PACKAGES)
    ours = {MLFF.CHGNet, MLFF.SevenNet, MLFF.Forcefield}
    assert set(map(MLFF, PACKAGES)) == set(MLFF) - ours


@pytest.mark.parametrize("name", ["CHGNet", "SevenNet", "Forcefield", "MLFF.MACE", "mace-mp-0"])
def test_a_wrong_name_is_answered_with_all_there_are(name):
    with pytest.raises(ValueError, match=f"{name}' is not known; known are chgnet.*MACE-MP-0,"):
        known_potential(name)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("MACE-MP-0", "mace", "mace-torch"), ("MatterSim", "mattersim", "mattersim")],
)
def test_one_that_is_not_installed_names_its_package(name, module, package):
    if find_spec(module):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UserError, match=f"'{name}' is not installed .*; pip install {package}"):
        calculator_of(name)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no network:\nretried"), r"loaded: OSError: no network:; correct the arguments"),
        (
            TypeError("what is color?"),
            r"loaded: TypeError: what is color\?; correct the arguments",
        ),
        (ImportError("broken:\nat"), r"not installed \(broken:\); pip install quippy-ase"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_sentence(monkeypatch, error, told):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(utils, "ase_calculator", fails)
    with pytest.raises(UserError, match=told) as raised:
        calculator_of("GAP", color="x")
    assert "\n" not in str(raised.value)


def test_each_set_of_arguments_is_loaded_once_beside_the_defaults(monkeypatch):
    loaded = []

    def loads(name, **arguments):
        loaded.append((name, arguments))
        return LennardJones()

    monkeypatch.setattr(utils, "ase_calculator", loads)
    first = calculator_of("M3GNet", path="a", nested={"x": [1]})
    assert calculator_of("M3GNet", nested={"x": [1]}, path="a") is first
    assert calculator_of("M3GNet", path="b", nested={"x": [1]}) is not first
    assert loaded == [
        ("M3GNet", {"stress_unit": "eV/A3", "path": path, "nested": {"x": [1]}})
        for path in ("a", "b")
    ]


@pytest.fixture(autouse=True)
def nothing_is_left_loaded():
    yield
    potentials._loaded.cache_clear()
