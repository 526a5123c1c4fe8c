"""Whether a relaxed structure is sound, how stable it is, and which stage it reaches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gan_htvs.core.candidate import Assessment, RelaxedStructure, Stage
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Thresholds
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet

Decision = tuple[Stage, str | None]
"""A stage, and why the candidate did not go further."""

LOWEST_BELIEVED = -0.1
"""Energies further below the hull are taken for holes of the potential, eV/atom."""

LARGEST_GROWTH = 2.0
"""A relaxation that ends with this many times its volume took the crystal apart."""


def soundness(relaxed: RelaxedStructure, *, is_reference: bool = False) -> Decision | None:
    """Find what disqualifies a relaxation before its energy is believed, if anything.

    The geometry of a reference phase was checked when its energy joined the reference set.
    """
    if not relaxed.structure.is_ordered:
        return Stage.FAILED, "the relaxed structure has partly occupied sites"
    if not is_reference and (problem := check_geometry(relaxed.structure)) is not None:
        return Stage.REJECTED, f"after relaxation: {problem}"
    if not relaxed.converged:
        return Stage.FAILED, f"relaxation not converged after {relaxed.n_steps} steps"
    if not math.isfinite(relaxed.energy_per_atom):
        return Stage.FAILED, f"the energy is not a number: {relaxed.energy_per_atom}"
    growth = 1 + (relaxed.volume_change or 0)
    if not growth < LARGEST_GROWTH:
        return Stage.REJECTED, f"the volume grew {growth:.1f}-fold in the relaxation: it fell apart"
    return None


def believes(energy_above_hull: float) -> bool:
    """Whether an energy (eV/atom) can be physics: nothing lies far below the reference phases."""
    return energy_above_hull >= LOWEST_BELIEVED


def assess(
    relaxed: RelaxedStructure, references: ReferenceSet, pourbaix: PourbaixSettings
) -> Assessment:
    """Place a sound structure on the convex hull and in the Pourbaix diagram.

    Raises
    ------
    UserError
        If the energy is of another level of theory than the references.
    """
    references.check_level(relaxed.level_of_theory)
    composition, energy = relaxed.structure.composition, relaxed.energy_per_atom
    formation = references.formation_energy_per_atom(composition, energy)
    analyzer = PourbaixAnalyzer(references, pourbaix)
    reason = analyzer.unavailable_reason(composition)
    return Assessment(
        formation_energy_per_atom=formation,
        energy_above_hull=references.energy_above_hull(composition, energy),
        decomposes_to=references.decompositions([composition])[0],
        pourbaix=None if reason else analyzer.stability(composition, formation),
        pourbaix_reason=reason,
    )


def deserves_gap(assessment: Assessment, limits: Thresholds) -> bool:
    """Whether a candidate is stable enough to spend a band gap calculation on."""
    stage, _ = decide(assessment, None, limits)
    return stage is Stage.POURBAIX_STABLE


def decide(  # noqa: PLR0911 - one return for each way to leave the funnel
    assessment: Assessment, gap: BandGapResult | None, limits: Thresholds
) -> Decision:
    """Walk down the funnel as far as the numbers allow."""
    above_hull = assessment.energy_above_hull
    if not believes(above_hull):
        return Stage.REJECTED, taken_for_hole(above_hull)
    if above_hull > limits.metastable:
        return Stage.REJECTED, exceeds("energy above hull", above_hull, limits.metastable)
    if above_hull > limits.synthesizable:
        return Stage.RELAXED, exceeds("energy above hull", above_hull, limits.synthesizable)
    if assessment.pourbaix is None:
        return Stage.STABLE, assessment.pourbaix_reason
    minimum = assessment.pourbaix.minimum
    if minimum > limits.pourbaix_screen:
        return Stage.STABLE, exceeds("Pourbaix minimum", minimum, limits.pourbaix_screen)
    if minimum > limits.pourbaix:
        return Stage.POURBAIX_STABLE, exceeds("Pourbaix minimum", minimum, limits.pourbaix)
    if gap is None or gap.band_gap is None:
        return Stage.POURBAIX_STABLE, gap.reason if gap else "band gap not computed yet"
    if not gap.is_complete:
        return Stage.POURBAIX_STABLE, f"band gap {gap.band_gap:.2f} eV incomplete: {gap.reason}"
    low, high = limits.band_gap
    if not low <= gap.band_gap <= high:
        return Stage.POURBAIX_STABLE, f"band gap {gap.band_gap:.2f} eV outside {low:g}-{high:g}"
    return Stage.PHOTOANODE, None


def taken_for_hole(energy_above_hull: float) -> str:
    """Say why an energy (eV/atom) is not believed."""
    return (
        f"energy above hull {energy_above_hull:.3f} < {LOWEST_BELIEVED:g} eV/atom: "
        "taken for a hole of the potential"
    )


def exceeds(quantity: str, value: float, limit: float) -> str:
    """Say that a value is above its limit, both in eV/atom."""
    return f"{quantity} {value:.3f} > {limit:g} eV/atom"
