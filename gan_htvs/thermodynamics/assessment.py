"""Soundness, stability and stage of relaxed structures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gan_htvs.core.candidate import Assessment, RelaxedStructure
from gan_htvs.core.stages import Stage
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Thresholds
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet

Decision = tuple[Stage, str | None]
"""Stage of a candidate, and why it does not reach the next one."""


MAX_VOLUME_RATIO = 2.0
"""Ratio of final to initial volume from which a crystal counts as broken apart."""


def check_relaxation(
    relaxed: RelaxedStructure,
    geometry: GeometryLimits = CHEMISTRY,
    *,
    is_reference: bool = False,
) -> Decision | None:
    """Return the stage and reason at which a relaxation is rejected; None if it is sound.

    The geometry of a reference phase is checked when its energy is added to the reference set.
    """
    if not relaxed.structure.is_ordered:
        return Stage.FAILED, "the relaxed structure has partially occupied sites"
    if not is_reference and (flaw := check_geometry(relaxed.structure, geometry)) is not None:
        return Stage.REJECTED, f"after relaxation: {flaw}"
    if not relaxed.converged:
        return Stage.FAILED, f"relaxation not converged after {relaxed.n_steps} steps"
    if not math.isfinite(relaxed.energy_per_atom):
        return Stage.FAILED, f"the energy is not a number: {relaxed.energy_per_atom}"
    growth = 1 + (relaxed.volume_change or 0)
    if not growth < MAX_VOLUME_RATIO:
        return (
            Stage.REJECTED,
            f"the volume grew {growth:.1f}-fold in the relaxation: the crystal broke apart",
        )
    return None


def assess(
    relaxed: RelaxedStructure, references: ReferenceSet, pourbaix: PourbaixSettings
) -> Assessment:
    """Compute the hull and Pourbaix stability of a sound structure.

    Raises
    ------
    UserError
        If the level of theory differs from that of the references.
    """
    references.check_level(relaxed.level_of_theory)
    composition, energy = relaxed.structure.composition, relaxed.energy_per_atom
    formation = references.formation_energy_per_atom(composition, energy)
    from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer  # noqa: PLC0415 - slow

    analyzer = PourbaixAnalyzer(references, pourbaix)
    reason = analyzer.unavailable_reason(composition)
    decomposition = references.decomposition_energy(composition, energy)
    return Assessment(
        formation_energy_per_atom=formation,
        decomposition_energy=decomposition,
        reference_decomposition_energy=decomposition,
        decomposes_to=references.decompositions([composition])[0],
        uncovered_subsystems=references.uncovered(composition),
        pourbaix=None if reason else analyzer.stability(composition, formation),
        pourbaix_reason=reason,
    )


def qualifies_for_band_gap(assessment: Assessment, limits: Thresholds) -> bool:
    """Return whether a candidate is stable enough for a band gap calculation."""
    stage, _ = decide(assessment, None, limits)
    return stage is Stage.POURBAIX_STABLE


def decide(  # noqa: PLR0911 - one return for each stage and reason
    assessment: Assessment,
    gap: BandGapResult | None,
    limits: Thresholds,
    *,
    accept_incomplete: bool = False,
) -> Decision:
    """Return the last stage of the funnel that a candidate reaches, and why it stops there.

    An incomplete gap passes no stage unless ``accept_incomplete`` is set.
    """
    above_hull = assessment.energy_above_hull
    lowest = lowest_plausible(limits.lowest_decomposition_energy, assessment.uncovered_subsystems)
    implausible = implausible_reason(assessment.reference_decomposition_energy, lowest)
    if implausible is not None:
        return Stage.REJECTED, implausible
    if above_hull > limits.metastable:
        return Stage.REJECTED, excess_reason("energy above hull", above_hull, limits.metastable)
    if above_hull > limits.synthesizable:
        return Stage.RELAXED, excess_reason("energy above hull", above_hull, limits.synthesizable)
    if assessment.pourbaix is None:
        return Stage.STABLE, assessment.pourbaix_reason
    minimum = assessment.pourbaix.minimum
    if minimum > limits.pourbaix_screen:
        return Stage.STABLE, excess_reason("Pourbaix minimum", minimum, limits.pourbaix_screen)
    if minimum > limits.pourbaix:
        return Stage.POURBAIX_STABLE, excess_reason("Pourbaix minimum", minimum, limits.pourbaix)
    if gap is None or gap.band_gap is None:
        return Stage.POURBAIX_STABLE, gap.reason if gap else "band gap not computed"
    if not gap.is_complete and not accept_incomplete:
        return Stage.POURBAIX_STABLE, f"band gap {gap.band_gap:.2f} eV incomplete: {gap.reason}"
    low, high = limits.band_gap
    if not low <= gap.band_gap <= high:
        return Stage.POURBAIX_STABLE, f"band gap {gap.band_gap:.2f} eV outside {low:g}-{high:g}"
    return Stage.PHOTOANODE, None


def excess_reason(quantity: str, value: float, limit: float) -> str:
    """Return the reason for a value above its limit, both in eV/atom."""
    return f"{quantity} {value:.3f} > {limit:g} eV/atom"
