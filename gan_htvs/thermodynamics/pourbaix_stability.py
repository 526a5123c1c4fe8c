"""What is stored of a candidate's stability in water; apart, since computing it imports much."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gan_htvs.campaign import PourbaixSettings
from gan_htvs.documents import Document


class PourbaixStability(Document):
    """Decomposition energy of one candidate in water, with everything it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: float = Field(description="smallest decomposition energy on the pH grid, eV/atom")
    ph_at_minimum: float = Field(description="pH of the minimum")
    decomposes_to: tuple[str, ...] = Field(
        description="stable species at the minimum, water, protons and electrons left out"
    )
    ph: tuple[float, ...] = Field(description="pH grid")
    decomposition_energies: tuple[float, ...] = Field(
        description="decomposition energy at each pH, eV/atom; negative below the diagram"
    )
    settings: PourbaixSettings = Field(
        description="potential, grid, concentration, solid filter, hydroxides"
    )
    ion_set: str = Field(description="version of the table of ions")
    level_of_theory: str = Field(description="what computed the solids")
