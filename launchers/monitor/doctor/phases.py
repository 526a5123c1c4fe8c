"""Check of the reference phases of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.thermodynamics.references import phases_of, uncovered_subsystems
from launchers.monitor.findings import Finding, ok, skipped, warning

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign


def reference_phases(campaign: Campaign) -> Finding:
    """Check that the reference phases of a campaign cover its chemical system.

    Raises
    ------
    UserError
        If an element has no phase, or the file cannot be used.
    """
    path, system = campaign.references.path, campaign.chemical_system
    if path is not None and not path.exists():
        return skipped(f"{path} does not exist yet; `gan-htvs run` or `submit` fetches it")
    phases = phases_of(campaign)
    covered = {phase.structure.chemical_system for phase in phases}
    if missing := uncovered_subsystems(system.elements, covered):
        return warning(
            f"no reference phases of {', '.join(missing)}",
            "check that these systems have no compounds; otherwise candidates appear too stable",
        )
    return ok(f"{len(phases)} of {system.chemsys}")
