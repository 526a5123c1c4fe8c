"""Interatomic potentials: three whose weights come with their packages, and those of atomate2."""

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
"""Model of CHGNet, independent of the default of the installed version."""


class _Shipped(NamedTuple):
    """Potential whose weights come with its package."""

    model: str
    """Name of the model in the package."""
    package: str
    weights: str
    """Path of the weights in the package."""
    extra: str
    """Extra of gan-htvs that installs the package."""
    calculator: str
    """Module and class of the ASE calculator, with the arguments model and device."""


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
"""Names in the sevenn package."""

_EXCLUDED = frozenset({"CHGNet", "SevenNet", "Forcefield"})
"""Names of atomate2 that are not accepted: potentials in :data:`SHIPPED`, and a generic name."""

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
"""PyPI packages of the force fields of atomate2, by name."""


@cache
def force_fields() -> tuple[str, ...]:
    """Return the names of the force fields of atomate2 that are not in :data:`SHIPPED`."""
    from atomate2.forcefields.utils import MLFF  # noqa: PLC0415 - takes seconds

    return tuple(field.value for field in MLFF if field.value not in _EXCLUDED)


def known_potential(name: str, *, besides: Sequence[str] = ()) -> str:
    """Return the name of a potential or one of ``besides``; raise a ValueError for other names."""
    if name in SHIPPED or name in besides or name in force_fields():
        return name
    known = ", ".join((*SHIPPED, *besides, *force_fields()))
    raise ValueError(f"{name!r} is not known; choose from {known}")


def calculator_of(name: str, /, **arguments: Any) -> Calculator:
    """Load a potential as an ASE calculator, once per process.

    Potentials in :data:`SHIPPED` run on the CPU, others on the device of their ``arguments``.

    Parameters
    ----------
    name
        One of :data:`SHIPPED` or :func:`force_fields`.
    arguments
        Plain values for the calculator of a force field, added to the defaults of atomate2.

    Raises
    ------
    UserError
        If it is not installed, or cannot be loaded.
    """
    return _loaded(name, json.dumps(arguments, sort_keys=True))


def module_of(name: str) -> str:
    """Return the module whose import takes most of the loading time of a potential."""
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
    """Load one of :data:`SHIPPED` on a device of PyTorch, with a new model.

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
    """Find the file with the weights of one of :data:`SHIPPED`, without loading it.

    Raises
    ------
    UserError
        If the potential or its weights are not installed.
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

    # The base class of atomate2's Makers adds defaults such as the unit of the stress.
    complete = ForceFieldMixin(name, calculator_kwargs=arguments).calculator_kwargs
    try:
        return ase_calculator(name, **complete)
    except Exception as error:  # packages raise anything if a file or the network is missing
        reason = f"{(str(error).splitlines() or [''])[0].rstrip('.'):.200}"
        if isinstance(error, ImportError):
            package = PACKAGES.get(name, "its package")
            problem = f"is not installed ({reason}); pip install {package}"
        else:
            problem = (
                f"cannot be loaded: {type(error).__name__}: {reason}; correct the arguments, or "
                "load it once with network access to download its weights"
            )
        raise UserError(f"potential {name!r} {problem}.") from error


def _not_installed(name: str) -> UserError:
    return UserError(
        f"potential {name!r} is not installed; pip install 'gan-htvs[{_SHIPPED[name].extra}]', or "
        "change the potentials in campaign.yaml: engines.energy.name, prescreen.potential and "
        "prescreen.confirm ('none': no second potential)."
    )
