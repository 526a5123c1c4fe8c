"""Settings and results of the Pourbaix stability."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, model_validator

from gan_htvs.core.document import Document
from gan_htvs.core.settings import PositiveFloat, Settings


class PourbaixSettings(Settings):
    """Aqueous environment of the Pourbaix stability."""

    potential_vs_rhe: float = Field(1.5, ge=-3, le=4, description="electrode potential, V vs RHE")
    ph_min: float = Field(0, ge=-2, le=16, description="lowest pH")
    ph_max: float = Field(14, ge=-2, le=16, description="highest pH")
    ph_points: int = Field(29, ge=2, description="number of equidistant pH values")
    ion_concentration: PositiveFloat = Field(
        1e-6, description="concentration of the metal atoms of each dissolved ion, mol/l"
    )
    filter_solids: bool = Field(
        True, description="exclude solids that are not on the convex hull from the diagram"
    )
    ion_set: str = Field(
        "78-elements-1",
        description="table of aqueous ions of the package, by its version, see docs/stability.md; "
        "with `ion_file`: set to the version in that file",
    )
    ion_file: Path | None = Field(
        None, description="file with your own table of aqueous ions, relative to campaign.yaml"
    )
    sha256: str | None = Field(None, description="hash of `ion_file`; computed if omitted")
    hydroxides: bool = Field(
        False, description="include solids with H as competing phases, at measured free energies"
    )

    @model_validator(mode="after")
    def _grid_is_ordered(self) -> PourbaixSettings:
        if self.ph_min >= self.ph_max:
            raise ValueError(f"ph_min {self.ph_min} must be below ph_max {self.ph_max}")
        return self


class PourbaixStability(Document):
    """Pourbaix decomposition energy of one candidate, with all its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: float = Field(description="smallest decomposition energy on the pH grid, eV/atom")
    ph_at_minimum: float = Field(description="pH of the minimum")
    decomposes_to: tuple[str, ...] = Field(
        description="stable species at the minimum, without water, protons and electrons"
    )
    ph: tuple[float, ...] = Field(description="pH grid")
    decomposition_energies: tuple[float, ...] = Field(
        description="decomposition energy at each pH, eV/atom; negative below the diagram"
    )
    settings: PourbaixSettings = Field(
        description="potential, grid, concentration, solid filter, hydroxides, table of ions; "
        "`ion_file` has the name of the file without its folder"
    )
    ion_set: str = Field(description="version of the table of ions")
    level_of_theory: str = Field(description="level of theory of the solids")
