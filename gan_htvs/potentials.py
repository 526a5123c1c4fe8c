"""Interatomic potentials whose weights come with their packages."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

CHGNET = "0.3.0"
"""Model of CHGNet that is loaded, whatever the default of the installed version."""

SEVENNET_MODELS = {"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}
"""Name here -> name in the sevenn package."""

_WEIGHTS = {
    "chgnet": ("chgnet", f"pretrained/{CHGNET}/*.pth.tar"),
    "sevennet-0": ("sevenn", "pretrained_potentials/SevenNet_0__11Jul2024/*.pth"),
    "sevennet-l3i5": ("sevenn", "pretrained_potentials/SevenNet_l3i5/*.pth"),
}
"""Name here -> the package, and where in it the weights are."""


@cache
def calculator_of(name: str) -> Calculator:
    """Load a potential as an ASE calculator on the CPU, once in each process.

    Raises
    ------
    UserError
        If it is not installed.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        if name in SEVENNET_MODELS:
            return _sevennet(SEVENNET_MODELS[name])
        return _chgnet()


def weights_file(name: str) -> Path:
    """Find the weights of a potential on disk, without loading anything.

    Raises
    ------
    UserError
        If the potential is not installed, or came without its weights.
    """
    package, pattern = _WEIGHTS[name]
    extra = "sevennet" if name in SEVENNET_MODELS else "local"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise _not_installed(name, extra)
    for path in Path(spec.origin).parent.glob(pattern):
        return path
    raise UserError(
        f"engines.energy.name: {name!r} is installed without its weights; pip install "
        f"--force-reinstall --no-deps {package}."
    )


def calculator_arguments(name: str) -> dict[str, Any]:
    """Keyword arguments with which the potential's own ASE calculator is the same."""
    if name in SEVENNET_MODELS:
        return {"model": SEVENNET_MODELS[name], "device": "cpu"}
    return {}


def _chgnet() -> Calculator:
    try:
        from chgnet.model import CHGNet, CHGNetCalculator  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise _not_installed("chgnet", "local") from error
    model = CHGNet.load(model_name=CHGNET, use_device="cpu", verbose=False)
    return CHGNetCalculator(model, use_device="cpu")


def _sevennet(model: str) -> Calculator:
    try:
        from sevenn.calculator import SevenNetCalculator  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise _not_installed("sevennet", "sevennet") from error
    return SevenNetCalculator(model, device="cpu")


def _not_installed(name: str, extra: str) -> UserError:
    return UserError(
        f"engines.energy.name: {name!r} is not installed; pip install 'gan-htvs[{extra}]'."
    )
