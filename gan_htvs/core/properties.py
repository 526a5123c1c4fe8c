"""Properties of candidates that stages of the funnel can use."""

from __future__ import annotations

import pkgutil
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import Field, field_validator
from pymatgen.core import Element

from gan_htvs.core.document import Document, value_at
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BAND_GAP: Final = "band_gap"
POURBAIX: Final = "pourbaix_decomposition_energy"
ENERGY_ABOVE_HULL: Final = "energy_above_hull"
IS_NOVEL: Final = "is_novel"
OXIDATION_STATE: Final = "oxidation_state_"
"""Prefix of the property of an element: its average state, from the moments of its sites."""


class Property(NamedTuple):
    """Label and unit of a property, and the field in which documents store it."""

    label: str
    unit: str
    path: str
    """Field of a :class:`gan_htvs.core.candidate.Candidate`, nested fields after a dot."""
    digits: int = 3

    def value_in(self, document: Mapping[str, Any]) -> float | None:
        """Return the value in a candidate document; None if it is not computed."""
        value: float | None = value_at(document, self.path)
        return value

    def compare(self, value: float, bound: str) -> str:
        """Return a value beside a bound, such as 'energy above hull 0.217 > 0.2 eV/atom'."""
        return f"{self.label} {value:z.{self.digits}f} {bound} {self.unit}".rstrip()


PROPERTIES: Final[dict[str, Property]] = {
    ENERGY_ABOVE_HULL: Property("energy above hull", "eV/atom", "energy_above_hull"),
    "decomposition_energy": Property("decomposition energy", "eV/atom", "decomposition_energy"),
    "formation_energy_per_atom": Property(
        "formation energy", "eV/atom", "formation_energy_per_atom"
    ),
    POURBAIX: Property("Pourbaix decomposition energy", "eV/atom", "pourbaix.minimum"),
    BAND_GAP: Property("band gap", "eV", "band_gap", 2),
    "density": Property("density", "g/cm^3", "density"),
    "volume_per_atom": Property("volume per atom", "A^3", "volume_per_atom"),
    "total_magnetization": Property(
        "total magnetization", "Bohr magnetons per cell", "total_magnetization", 2
    ),
    "space_group_number": Property("space group number", "", "symmetry.number", 0),
    IS_NOVEL: Property("novelty", "", "novelty.is_novel", 0),
}
"""Properties that the package computes. Pourbaix decomposition energies are those at the most
favorable pH; ``is_novel`` is 1 for crystals that match neither a training structure nor a reference
phase, otherwise 0."""


class UserProperty(Settings):
    """A property of relaxed structures that the user's own code computes."""

    path: str = Field(
        description="import path of a function that takes a pymatgen Structure and returns a "
        "number, or of a jobflow Maker whose `make` takes a Structure and has a number as output, "
        "such as my_package.elasticity.bulk_modulus"
    )
    unit: str = Field("", description="unit of the number")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the function or Maker"
    )

    @field_validator("path")
    @classmethod
    def _path_is_importable(cls, path: str) -> str:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
            raise ValueError(
                f"{path!r} must be an import path with a module, such as my_package.bulk_modulus"
            )
        return path

    def load(self) -> Callable[..., Any]:
        """Import the function or Maker class.

        Raises
        ------
        UserError
            If it cannot be imported or called.
        """
        try:
            target = pkgutil.resolve_name(self.path)
        except Exception as error:  # the module of the user may raise anything
            raise UserError(
                f"properties: {self.path!r} cannot be imported ({type(error).__name__}: {error}); "
                "install the module in the environment of the workers, or add its folder to "
                "PYTHONPATH."
            ) from error
        if not callable(target):
            raise UserError(
                f"properties: {self.path!r} is not a function or a Maker; name one by its import "
                "path."
            )
        return target

    def job_uuid(self, relaxed_hash: str) -> str:
        """Return the uuid of the job with the result for a relaxed structure, by its hash."""
        return content_uuid("property", self.path, self.arguments, relaxed_hash)


class PropertyResult(Document):
    """Value of a user's property, or the reason why it is missing."""

    value: float | None = None
    unit: str = ""
    reason: str | None = Field(None, description="why there is no value")


def element_of(name: str) -> str | None:
    """Return the element of a property such as ``oxidation_state_Mn``; None for other names."""
    symbol = name.removeprefix(OXIDATION_STATE)
    return symbol if symbol != name and Element.is_valid_symbol(symbol) else None


def property_of(name: str, user_properties: Mapping[str, UserProperty]) -> Property | None:
    """Return the property with a name; None if it is neither the package's nor the user's."""
    if (known := PROPERTIES.get(name)) is not None:
        return known
    if (symbol := element_of(name)) is not None:
        label = f"oxidation state of {symbol}"
        return Property(label, "", f"oxidation_states.average.{symbol}", 2)
    if name not in user_properties:
        return None
    label = name.replace("_", " ")
    return Property(label, user_properties[name].unit, f"properties.{name}.value")
