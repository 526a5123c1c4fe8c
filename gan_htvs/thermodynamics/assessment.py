"""Soundness, stability and stage of relaxed structures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gan_htvs.core.candidate import Assessment, RelaxedStructure
from gan_htvs.core.funnel_stages import Decision
from gan_htvs.core.properties import POURBAIX
from gan_htvs.core.stages import Stage
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gan_htvs.core.funnel_stages import FunnelSettings
    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet

MAX_VOLUME_RATIO = 2.0
"""Ratio of final to initial volume from which a crystal counts as broken apart."""


def check_relaxation(
    relaxed: RelaxedStructure,
    geometry: GeometryLimits = CHEMISTRY,
    *,
    is_reference: bool = False,
) -> tuple[Stage, str] | None:
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
    relaxed: RelaxedStructure, references: ReferenceSet, pourbaix: PourbaixSettings | None
) -> Assessment:
    """Compute the hull stability of a sound structure and, with conditions, its aqueous stability.

    Raises
    ------
    UserError
        If the level of theory differs from that of the references.
    """
    references.check_level(relaxed.level_of_theory)
    composition, energy = relaxed.structure.composition, relaxed.energy_per_atom
    formation = references.formation_energy_per_atom(composition, energy)
    stability = reason = None
    if pourbaix is not None:
        from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer  # noqa: PLC0415 - slow

        analyzer = PourbaixAnalyzer(references, pourbaix)
        reason = analyzer.unavailable_reason(composition)
        stability = None if reason else analyzer.stability(composition, formation)
    decomposition = references.decomposition_energy(composition, energy)
    return Assessment(
        formation_energy_per_atom=formation,
        decomposition_energy=decomposition,
        reference_decomposition_energy=decomposition,
        decomposes_to=references.decompositions([composition])[0],
        uncovered_subsystems=references.uncovered(composition),
        pourbaix=stability,
        pourbaix_reason=reason,
    )


def decide(
    assessment: Assessment,
    funnel: FunnelSettings,
    document: Mapping[str, Any],
    *,
    lowest_decomposition_energy: float | None = None,
    reasons: Mapping[str, str | None] | None = None,
) -> Decision:
    """Return the last stage of the funnel that a candidate passes, and why it stops there.

    Parameters
    ----------
    assessment
        Its stability.
    funnel
        Stages of the campaign.
    document
        Its other properties, as fields of a candidate document.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`, eV/atom.
    reasons
        Why properties other than the stability are missing, by name.
    """
    lowest = lowest_plausible(lowest_decomposition_energy, assessment.uncovered_subsystems)
    implausible = implausible_reason(assessment.reference_decomposition_energy, lowest)
    if implausible is not None:
        return Decision(Stage.REJECTED, implausible)
    stability = {
        "energy_above_hull": assessment.energy_above_hull,
        "decomposition_energy": assessment.decomposition_energy,
        "formation_energy_per_atom": assessment.formation_energy_per_atom,
        "pourbaix": assessment.pourbaix and {"minimum": assessment.pourbaix.minimum},
    }
    return funnel.decide(
        {**document, **stability}, {**(reasons or {}), POURBAIX: assessment.pourbaix_reason}
    )
