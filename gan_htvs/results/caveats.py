"""Caveats of results: limits of the methods, error estimates and known weak points of the data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import ConfigDict, Field

from gan_htvs.core.document import Document
from gan_htvs.core.oxidation import bonded_oxygen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Candidate

WEAK_POINTS = Path(__file__).with_name("weak_points.yaml")


class WeakPoint(Document):
    """A known weak point of a potential, of reference phases or of a table of ions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    property: Literal["hull", "pourbaix"] = Field(description="property that it affects")
    elements: frozenset[str] = Field(description="elements of the affected candidates")
    formulas: frozenset[str] = Field(
        frozenset(), description="reduced formulas of the affected candidates; empty: all"
    )
    level: tuple[str, ...] = Field(
        (), description="prefixes of the affected levels of theory; empty: all"
    )
    peroxide: bool = Field(
        default=False, description="whether only O-O bonds are affected, as in peroxides"
    )
    literature: bool = Field(
        default=False, description="whether only the reference phases of the package are affected"
    )
    text: str
    source: str

    def affects(self, candidate: Candidate, campaign: Campaign | None) -> bool:
        """Return whether a candidate of a campaign has a result with this weak point."""
        results = {"hull": candidate.energy_above_hull, "pourbaix": candidate.pourbaix}
        structure = candidate.structure
        level = str(candidate.level_of_theory)
        source = campaign.references.source if campaign else "auto"
        return (
            results[self.property] is not None
            and structure is not None
            and self.elements <= set(candidate.chemsys.split("-"))
            and (not self.formulas or candidate.formula_pretty in self.formulas)
            and (not self.level or level.startswith(self.level))
            and (not self.peroxide or bool(bonded_oxygen(structure)))
            and (not self.literature or source in ("auto", "literature"))
        )


@cache
def weak_points() -> tuple[WeakPoint, ...]:
    """Read the known weak points."""
    entries = yaml.safe_load(WEAK_POINTS.read_text(encoding="utf-8"))
    return tuple(WeakPoint.model_validate(entry) for entry in entries)


def caveats_of(candidate: Candidate, campaign: Campaign | None = None) -> list[str]:
    """Return the caveats of the results of one candidate.

    Parameters
    ----------
    candidate
        A candidate document with structure, level of theory and results.
    campaign
        Its campaign; None: unknown.
    """
    caveats = []
    gap = candidate.band_gap_result
    if gap is not None and gap.band_gap is not None and gap.uncertainty:
        caveats.append(f"Error of the band gap: {gap.uncertainty}.")
    caveats += [point.text for point in weak_points() if point.affects(candidate, campaign)]
    return caveats


def caveats_of_campaign(campaign: Campaign) -> Iterator[str]:
    """Yield the caveats of all results of a campaign."""
    engines = campaign.engines
    if engines.energy.name.startswith("vasp"):
        yield "All compared energies are from the same functional."
    else:
        yield (
            f"Energies are from an interatomic potential ({engines.energy.name}) and are compared "
            "only with energies of the same potential; density-functional calculations have not "
            "confirmed them. Structures below the hull are predictions to be verified."
        )
    if campaign.computes_gaps and engines.band_gap.name == "gpaw":
        yield (
            "Gaps are one-shot HSE06 eigenvalues on PBE+U orbitals, for the lowest-energy magnetic "
            "ordering among those computed."
        )
    if (warning := campaign.references.completeness_warning) is not None:
        yield warning
    if campaign.aqueous_conditions is not None:
        yield "Aqueous stability is thermodynamic; kinetics and passivation are not included."
    yield "Temperature and phonons are not included: structures may be dynamically unstable."
