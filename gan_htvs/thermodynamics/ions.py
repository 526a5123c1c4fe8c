"""Free energies of aqueous ions, and of the reference solids to which they are tied."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ConfigDict, Field

from gan_htvs.core.document import Document
from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from gan_htvs.core.pourbaix_stability import PourbaixSettings

AQUEOUS_IONS = Path(__file__).with_name("aqueous_ions.yaml")


class IonReference(Document):
    """Experimental free energy of formation at 298.15 K."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str = Field(description="formula of the ion with its charge, or of the solid")
    free_energy: float = Field(description="free energy of formation, kJ/mol")
    source: str


class IonSet(Document):
    """Versioned table of aqueous ions and their reference solids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    reference_solids: dict[str, IonReference] = Field(description="element -> solid")
    ions: tuple[IonReference, ...]
    hydroxides: tuple[IonReference, ...] = Field((), description="solids with H")


@cache
def aqueous_ions() -> IonSet:
    """Read the table of aqueous ions."""
    return IonSet.model_validate(yaml.safe_load(AQUEOUS_IONS.read_text(encoding="utf-8")))


def ion_set_of(settings: PourbaixSettings) -> IonSet:
    """Return the table of ions of a campaign.

    Raises
    ------
    UserError
        If this version of the package has another table.
    """
    table = aqueous_ions()
    if table.version != settings.ion_set:
        raise UserError(
            f"pourbaix.ion_set: {settings.ion_set!r} is not the table of this version of gan-htvs, "
            f"{table.version!r}; set that in a new campaign, or install the version that the "
            "campaign was started with."
        )
    return table
