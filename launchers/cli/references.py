"""The command that fetches and lists reference phases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from launchers.cli import common as cli
from launchers.console import output as console
from launchers.console.quantities import counted

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.thermodynamics.references import ReferencePhase


@cli.command("references campaign.yaml", "references campaign.yaml --json")
def references(campaign_file: cli.CampaignFile, as_json: cli.AsJson = False) -> None:
    """Fetch the reference phases of a campaign if necessary, and list them.

    Phases of a database are written to the file references.path, beside the campaign file by
    default. Copy this file to a machine without network. To fetch the phases again, delete it.
    """
    from gan_htvs.thermodynamics.coverage import incomplete_hull_warning
    from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
    from gan_htvs.thermodynamics.references import uncovered_by

    campaign = cli.read_campaign(campaign_file)
    phases = phases_of(campaign)
    missing = uncovered_by(phases, campaign.chemical_system.elements)
    rows = [_row(phase) for phase in phases]
    if as_json:
        document = {
            "source": campaign.references.source,
            "path": campaign.references.path and str(campaign.references.path),
            "phases": rows,
            "uncovered_subsystems": missing,
        }
        typer.echo(json.dumps(document, indent=1))
        return
    head = ("phase", "space group", "atoms", "source")
    console.out.print(
        console.grid_table(console.Grid(None, head, [tuple(row.values()) for row in rows]))
    )
    console.out.print(_summary(campaign, len(phases)), soft_wrap=True)
    if (warning := incomplete_hull_warning(missing)) is not None:
        console.note(warning)


def _row(phase: ReferencePhase) -> dict[str, str | int]:
    symbol, _ = phase.structure.get_space_group_info(symprec=0.01)
    return {
        "name": phase.name,
        "space_group": symbol,
        "atoms": len(phase.structure),
        "source": phase.source,
    }


def _summary(campaign: Campaign, n_phases: int) -> str:
    """Return a sentence on the number and the origin of the phases."""
    from gan_htvs.thermodynamics.reference_sources.own_files import provenance_of

    settings = campaign.references
    text = f"{counted(n_phases, 'reference phase')} of {campaign.chemical_system.chemsys}"
    if settings.path is None:
        return f"{text} from the package"
    provenance = provenance_of(settings.path)
    if provenance is None:
        return f"{text} from {settings.path}"
    text += f" from {settings.path}, fetched {provenance.fetched_at:%Y-%m-%d} ({provenance.request}"
    skipped = ", ".join(f"{reason} ({n:,})" for reason, n in provenance.skipped.items() if n)
    return f"{text}; skipped: {skipped or 'none'})"
