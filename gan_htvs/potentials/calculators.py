"""Interatomic potentials: three whose weights come with their packages, and atomate2's others."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase.calculators.calculator import Calculator

CHGNET = "0.3.0"
"""Model of CHGNet that is loaded, whatever the default of the installed version."""


class _Shipped(NamedTuple):
    """A potential whose weights come with its package."""

    model: str
    """Name of the model in the package."""
    package: str
    weights: str
    """Where in the package the weights are."""
    extra: str
    """Extra of gan-htvs that installs the package."""
    calculator: str
    """Module and class of the ASE calculator, made of a model and a device."""


_CHGNET = "gan_htvs.potentials.chgnet:OnePassCHGNet"
_SEVENNET = "gan_htvs.potentials.sevennet:LazySevenNet"
_FOLDER = "pretrained_potentials"
_SHIPPED = {
    "chgnet": _Shipped(CHGNET, "chgnet", f"pretrained/{CHGNET}/*.pth.tar", "local", _CHGNET),
    "sevennet-0": _Shipped(
        "7net-0", "sevenn", f"{_FOLDER}/SevenNet_0__11Jul2024/*.pth", "sevennet", _SEVENNET
    ),
    "sevennet-l3i5": _Shipped(
        "7net-l3i5", "sevenn", f"{_FOLDER}/SevenNet_l3i5/*.pth", "sevennet", _SEVENNET
    ),
}

SHIPPED = tuple(_SHIPPED)
"""Potentials whose model is part of the name, and whose weights come with their packages."""

SEVENNET_MODELS = {name: _SHIPPED[name].model for name in SHIPPED if name.startswith("sevennet")}
"""Name here -> name in the sevenn package."""

_NOT_BY_THEIR_NAME = frozenset({"CHGNet", "SevenNet", "Forcefield"})
"""Of atomate2's names: two that have one of :data:`SHIPPED`, and one of no force field."""

PACKAGES = {
    "Allegro": "nequip-allegro",
    "DeepMD": "deepmd-kit",
    "FAIRChem": "fairchem-core",
    "GAP": "quippy-ase",
    "M3GNet": "matgl",
    "MACE": "mace-torch",
    "MACE-MP-0": "mace-torch",
    "MACE-MP-0b3": "mace-torch",
    "MACE-MPA-0": "mace-torch",
    "MatPES-PBE": "matgl",
    "MatPES-r2SCAN": "matgl",
    "MatterSim": "mattersim",
    "NEP": "calorine",
    "Nequip": "nequip",
    "UPET": "upet",
}
"""atomate2's name of a force field -> what to install from PyPI."""


@cache
def force_fields() -> tuple[str, ...]:
    """List atomate2's names of the force fields that are none of :data:`SHIPPED`."""
    from atomate2.forcefields.utils import MLFF  # noqa: PLC0415 - takes seconds

    return tuple(each.value for each in MLFF if each.value not in _NOT_BY_THEIR_NAME)


def known_potential(name: str, *, besides: Sequence[str] = ()) -> str:
    """Refuse what is neither a potential nor one of ``besides``, with a ValueError."""
    if name in SHIPPED or name in besides or name in force_fields():
        return name
    known = ", ".join((*SHIPPED, *besides, *force_fields()))
    raise ValueError(f"{name!r} is not known; known are {known}")


def calculator_of(name: str, /, **arguments: Any) -> Calculator:
    """Load a potential as an ASE calculator, once in each process.

    Those of :data:`SHIPPED` compute on the CPU, others where ``arguments`` or their package say.

    Parameters
    ----------
    name
        One of :data:`SHIPPED` or :func:`force_fields`.
    arguments
        Plain values for the calculator of a force field, beside atomate2's defaults.

    Raises
    ------
    UserError
        If it is not installed, or cannot be loaded.
    """
    return _loaded(name, json.dumps(arguments, sort_keys=True))


def module_of(name: str) -> str:
    """Return the module whose import takes most of the time that loading a potential takes."""
    if name not in SHIPPED:
        return "atomate2.forcefields.utils"
    return _SHIPPED[name].calculator.partition(":")[0]


@cache
def _loaded(name: str, arguments: str) -> Calculator:
    if name in SHIPPED:
        return shipped_calculator(name, "cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        return _force_field(name, json.loads(arguments))


def shipped_calculator(name: str, device: str) -> Any:
    """Load one of :data:`SHIPPED` on a device of PyTorch, with a model of its own.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        calculator = resolve_name(_SHIPPED[name].calculator)
    except ImportError as error:
        raise _not_installed(name) from error
    with contextlib.redirect_stdout(io.StringIO()):
        return calculator(_SHIPPED[name].model, device)


def weights_file(name: str) -> Path:
    """Find the weights of one of :data:`SHIPPED` on disk, without loading anything.

    Raises
    ------
    UserError
        If the potential is not installed, or came without its weights.
    """
    spec = find_spec(_SHIPPED[name].package)
    if spec is None or spec.origin is None:
        raise _not_installed(name)
    for path in Path(spec.origin).parent.glob(_SHIPPED[name].weights):
        return path
    raise UserError(
        f"potential {name!r} is installed without its weights; pip install "
        f"--force-reinstall --no-deps {_SHIPPED[name].package}."
    )


def _force_field(name: str, arguments: dict[str, Any]) -> Calculator:
    from atomate2.forcefields.utils import ForceFieldMixin, ase_calculator  # noqa: PLC0415 - slow

    # What atomate2's Makers are made of adds their defaults, units of the stress among them.
    complete = ForceFieldMixin(name, calculator_kwargs=arguments).calculator_kwargs
    try:
        return ase_calculator(name, **complete)
    except Exception as error:  # whatever a package raises that lacks a file or the network
        reason = f"{(str(error).splitlines() or [''])[0].rstrip('.'):.200}"
        if isinstance(error, ImportError):
            package = PACKAGES.get(name, "the package that has it")
            problem = f"is not installed ({reason}); pip install {package}"
        else:
            problem = (
                f"cannot be loaded: {type(error).__name__}: {reason}; correct the arguments, or "
                "load it once with network access if its weights are still to be downloaded"
            )
        raise UserError(f"potential {name!r} {problem}.") from error


def _not_installed(name: str) -> UserError:
    return UserError(
        f"potential {name!r} is not installed; pip install 'gan-htvs[{_SHIPPED[name].extra}]', or "
        "name others in campaign.yaml: engines.energy.name, prescreen.potential and "
        "prescreen.confirm, where 'none' asks no second one."
    )
