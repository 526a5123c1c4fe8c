"""Documents of a rediscovery: targets, and those that samples find."""

from __future__ import annotations

from pydantic import Field

from gan_htvs.core.document import Document
from gan_htvs.core.statistics import Share
from gan_htvs.core.stored_structure import StoredStructure


class Target(Document):
    """Crystal to be found."""

    label: str = Field(description="file, or file and row")
    formula: str = Field(description="reduced formula")
    decomposition_energy: float = Field(description="relative to the hull, eV/atom")
    structure: StoredStructure = Field(description="after relaxation")


class RediscoveryTargets(Document):
    """Crystals to be found, and why others are no targets."""

    window: float = Field(description="largest energy above hull, eV/atom")
    level_of_theory: str
    n_given: int
    skipped: dict[str, int] = Field(description="number of structures by reason")
    targets: list[Target] = Field(description="most stable first")


class PublishedRediscovery(Document):
    """Published share of crystals that were found."""

    chemsys: str
    share: float
    label: str
    window: float = Field(description="largest energy above hull, eV/atom")
    level_of_theory: str
    source: str


PUBLISHED_REDISCOVERY = PublishedRediscovery(
    chemsys="O-V",
    share=0.4,
    label="V-O crystals of iMatGen",
    window=0.2,
    level_of_theory="DFT (PBE+U)",
    source="Kim et al., ACS Cent. Sci. 2020, 6, 1412",
)


class FormulaRediscovery(Document):
    """Targets of one reduced formula that were found, whatever the size of the cells."""

    formula: str
    n_samples: int = Field(description="samples of this formula")
    as_generated: Share = Field(description="targets that match a sample before relaxation")
    relaxed: Share | None = Field(
        description="targets that match a relaxed sample; null if none was sent to relaxation"
    )


class Rediscovery(Document):
    """Targets that are found by samples."""

    n_samples: int
    n_relaxed: int = Field(description="sound relaxed samples")
    as_generated: Share = Field(description="targets that match a sample before relaxation")
    relaxed: Share | None = Field(
        description="targets that match a relaxed sample; null if none was sent to relaxation"
    )
    sampled_as_generated: Share = Field(description="the same for the sampled formulas only")
    sampled_relaxed: Share | None = Field(description="the same for the sampled formulas only")
    formulas: list[FormulaRediscovery] = Field(description="all formulas of targets")
    found_as_generated: tuple[int, ...] = Field(description="positions of these targets")
    found_relaxed: tuple[int, ...] = Field(description="positions of these targets")
    published: PublishedRediscovery | None = Field(description="only for V-O")
