"""Commands for the results of campaigns."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gan_htvs.core.errors import UserError
from gan_htvs.results.export import StructureFormat
from launchers.cli import common as cli
from launchers.console import output as console

Text = str | None
Flag = bool | None
"""Types of filters; see :class:`gan_htvs.results.filters.Filters`."""


def _filter(help_text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar)


_range = partial(_filter, metavar="LOW..HIGH")


@cli.command("build")
def build(
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workers: Annotated[int, typer.Option("--workers", "-j", min=1, help="Worker processes.")] = 1,
) -> None:
    """Update candidates from all finished jobs.

    Only candidates with new results are written. Jobs may run at the same time.
    """
    from launchers.launchpad.builders import build_candidates

    with cli.open_databases(launchpad) as databases, console.WorkProgress() as progress:
        changed = build_candidates(databases, n_workers=workers, on_progress=progress)
    typer.echo(f"{changed} candidates written" if changed else "All candidates are up to date.")


@cli.command("funnel mg-mn-o-demo --output figures")
def funnel(
    campaign: cli.CampaignName = None,
    output: Annotated[Path | None, cli.path_option("Draw figures here.", "--output", "-o")] = None,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Print the number of candidates that pass each stage; for Mg-Mn-O, the published ones, too.

    --output also draws figures as PNG and SVG: funnel, prescreen (relaxation curves and rejection
    reasons), hull (candidates and the hull of the reference phases), pourbaix (aqueous stability
    against pH) and gaps (band gap against Pourbaix stability, with the target window).
    """
    from launchers.cli.campaign_summary import print_funnel, print_prescreen
    from launchers.results.campaign_report import draw_figures, read_results, read_trajectories

    with cli.open_databases(launchpad) as databases:
        results = read_results(databases, campaign)
        trajectories = [] if output is None else read_trajectories(databases, results)
    print_funnel(results.campaign, results.funnel)
    print_prescreen(results.campaign, list(results.prescreened.values()))
    if output is not None:
        for path in draw_figures(results, output, trajectories):
            typer.echo(f"wrote {path}")


@cli.command("report mg-mn-o-demo --output report.html")
def report(
    campaign: cli.CampaignName = None,
    output: cli.OutputFile = Path("report.html"),
    top: Annotated[
        int, typer.Option(min=0, max=1000, help="Number of candidates with pictures.")
    ] = 30,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Write a self-contained HTML report: funnel, figures, best candidates, methods, caveats.

    `gan-htvs funnel --output` writes only the figures.
    """
    from gan_htvs.core.files import write_atomically
    from launchers.results.campaign_report import write_report

    with cli.open_databases(launchpad) as databases:
        html = write_report(databases, campaign, top)
    write_atomically(output, html.encode())
    typer.echo(f"wrote {output}")


@cli.command(
    "candidates --stage pourbaix_stable --unique",
    "candidates --energy-above-hull ..0.08 --band-gap 1.6..3.0 --sort band_gap",
    "candidates --reference-decomposition-energy ..-0.01 --novel",
    "candidates --stage photoanode --structures best --as poscar",
    "candidates --format csv > candidates.csv",
)
def candidates(
    context: typer.Context,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    campaign: Annotated[Text, _filter("Only this campaign.")] = None,
    formula: Annotated[Text, _filter("Reduced formula; elements in any order.")] = None,
    chemsys: Annotated[Text, _filter("Chemical system, such as Mg-Mn-O.")] = None,
    stage: Annotated[list[str] | None, _filter("Stage of the funnel; repeatable.")] = None,
    proposer: Annotated[Text, _filter("Name of the proposer.")] = None,
    level_of_theory: Annotated[Text, _filter("Level of theory of the energy.")] = None,
    energy_above_hull: Annotated[
        Text, _range("Energy above hull, eV/atom, such as ..0.08; 0: stable.")
    ] = None,
    decomposition_energy: Annotated[
        Text, _range("Relative to the hull of all other phases, eV/atom; stable: negative.")
    ] = None,
    reference_decomposition_energy: Annotated[
        Text, _range("Relative to the hull of the reference phases alone, eV/atom.")
    ] = None,
    band_gap: Annotated[Text, _range("Band gap, eV, such as 1.6..3.0.")] = None,
    pourbaix_min: Annotated[Text, _range("Lowest Pourbaix decomposition energy, eV/atom.")] = None,
    nsites: Annotated[Text, _range("Atoms in the cell.")] = None,
    spacegroup: Annotated[int | None, _filter("Number of the space group at 0.1 A.")] = None,
    is_novel: Annotated[
        Flag, _filter("Only novel structures, or only known ones.", "--novel/--known")
    ] = None,
    references: Annotated[bool, _filter("List reference phases, too.", "--references")] = False,
    unique: Annotated[
        bool, _filter("Only the lowest-energy candidate of each crystal.", "--unique")
    ] = False,
    sort: Annotated[
        str, _filter("Field to sort by; with a leading '-', largest first.")
    ] = "energy_above_hull",
    skip: Annotated[int, typer.Option(min=0, help="Skip this number of candidates.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of candidates; 0: all.")] = 0,
    count: Annotated[
        bool, typer.Option("--count", help="Print only the number of candidates.")
    ] = False,
    output: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="Output format.")
    ] = "table",
    structures: Annotated[
        Path | None, cli.path_option("Write the structures and a manifest to this folder.")
    ] = None,
    structure_format: Annotated[
        StructureFormat, typer.Option("--as", help="Format of the structures.")
    ] = StructureFormat.CIF,
) -> None:
    """List candidates, most stable first; count them, or write their structures.

    Reference phases are listed only with --references. Either end of a range may be omitted.
    --structures writes relaxed structures, or generated ones for candidates without a relaxation.
    """
    from gan_htvs.results.export import EXPORT_FIELDS, export_structures
    from gan_htvs.results.filters import Filters
    from gan_htvs.results.store import CandidateStore
    from launchers.console.quantities import counted
    from launchers.launchpad.registry import reference_warnings, registered, stage_names

    filters: dict[str, Any] = {name: context.params.get(name) for name in Filters.model_fields}
    filters["stage"] = stage or None
    filters["reference_phases"] = None if references or proposer else False
    if count and structures is not None:
        raise UserError("--count and --structures: cannot be combined; omit one of them.")
    Filters.from_values(**filters)  # validates them before a server is started
    order: dict[str, Any] = {"sort": sort, "skip": skip, "limit": limit}
    with cli.open_databases(launchpad) as databases:
        if campaign is not None:
            registered(databases, campaign)  # raises if it does not exist
        if stage and (unknown := set(stage) - set(known := stage_names(databases))):
            raise UserError(
                f"--stage {min(unknown)}: no campaign has this stage; use one of "
                f"{', '.join(known)}."
            )
        store = CandidateStore(databases.store("candidates", key="candidate_id"))
        if count:
            typer.echo(store.count(**filters))
            return
        if structures is not None:
            matching = store.query(fields=EXPORT_FIELDS, **order, **filters)
            paths = export_structures(matching, structures, structure_format)
            manifest = f", see {paths[-1].name}" if paths else ""
            typer.echo(f"wrote {counted(len(matching), 'structure')} to {structures}{manifest}")
            return
        rows = store.rows(**order, **filters)
        n_all = len(rows) or store.count()
        warnings = reference_warnings(databases, (row["campaign"] for row in rows))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2, default=str))
    elif output == "csv":
        console.write_csv(rows)
    else:
        console.print_candidates(rows, n_all)
        for warning in warnings:
            console.note(warning)


@cli.command(
    "show c5d41402abc4b2a7 --figure curve.png", "show c5d41402abc4b2a7 --json | jq .prescreen"
)
def show(
    candidate_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a candidate; see `gan-htvs candidates`.")
    ],
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    figure: Annotated[
        Path | None, cli.path_option("Draw its relaxation curve to this PNG file.", metavar="FILE")
    ] = None,
    as_json: cli.AsJson = False,
) -> None:
    """Show the provenance of a candidate: origin, relaxation, energies, moments, stage and reason.

    The relaxation is that of the prescreen, the only one whose curve is stored.
    """
    from launchers.monitor.history import lines, read_history

    with cli.open_databases(launchpad) as databases:
        history = read_history(databases, candidate_id)
    name = f"{history.candidate.formula_pretty} {candidate_id}"
    if as_json:
        typer.echo(json.dumps(history.as_dict(), indent=1, default=str))
    else:
        title = f"{name} of {history.candidate.campaign}"
        table = console.grid_table(console.Grid(title, ("", ""), lines(history)))
        table.show_header = False
        console.out.print(table)
    if figure is not None:
        from gan_htvs.core.figures import render_figure
        from gan_htvs.core.files import write_atomically
        from gan_htvs.prescreen.figure import draw_relaxation

        if history.relaxation is None or not history.relaxation.curve.energies:
            raise UserError(
                f"--figure: candidate {candidate_id} was not relaxed in a prescreen, so it has no "
                "relaxation curve; omit this option."
            )
        title = f"{name}: {history.relaxation.ending}"
        write_atomically(figure, render_figure(draw_relaxation(history.relaxation.curve, title)))
        typer.echo(f"wrote {figure}", err=as_json)
