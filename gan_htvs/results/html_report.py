"""Report of a campaign as one self-contained HTML file."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ase.visualize.plot import plot_atoms
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs import __version__
from gan_htvs.core.figures import figure_data_uri
from gan_htvs.core.text import INCOMPLETE_MARK, INCOMPLETE_NOTE
from gan_htvs.results.caveats import caveats_of, caveats_of_campaign
from gan_htvs.results.funnel import PUBLISHED_COLUMN
from gan_htvs.results.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Candidate
    from gan_htvs.results.funnel import Funnel

RANKED_FIELDS = (
    *("candidate_id", "formula_pretty", "stage", "reason", "origin", "nsites"),
    *("symmetry", "tight_symmetry"),
    *("structure", "energy_above_hull", "pourbaix", "band_gap", "band_gap_method", "novelty"),
    *(
        "band_gap_result",
        "chemsys",
        "level_of_theory",
        "incomplete_band_gap",
        "energy_incomplete",
        "decomposition_energy",
    ),
)
"""Candidate fields that the table of best candidates needs."""

CAPTIONS = {
    "funnel": "Structures that pass each stage.",
    "prescreen": "Relaxations of the prescreen, and the step at which structures were rejected.",
    "hull": "Hull of the reference phases, and the most stable candidate of each composition.",
    "pourbaix": "Pourbaix decomposition energy against pH, for candidates near the hull.",
    "gaps": "Band gap against Pourbaix decomposition energy, with the target window.",
}


def render_report(
    campaign: Campaign,
    funnel: Funnel,
    figures: Mapping[str, Figure],
    ranked: Sequence[Candidate],
    when: datetime,
    source_notes: Sequence[str] = (),
    rounds: Rounds | None = None,
) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    campaign, funnel
        The campaign and its counts by stage.
    figures
        Figures by name, see :data:`CAPTIONS`.
    ranked
        Candidates with the fields :data:`RANKED_FIELDS`, best first.
    when
        Time at which the data were read, UTC.
    source_notes
        Sentences on structures of the user that were skipped, or changed when read.
    rounds
        Rounds of sampling; None or without counts: there is only one.
    """
    environment = Environment(
        loader=PackageLoader("gan_htvs.results"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    energy, band_gap = campaign.engines.energy.name, campaign.engines.band_gap.name
    notes_of = [caveats_of(candidate, campaign) for candidate in ranked]
    caveats = list(dict.fromkeys(chain(caveats_of_campaign(campaign), *notes_of)))
    environment.filters |= {"count": _count, "number": _number}
    return environment.get_template("report.html").render(
        campaign=campaign,
        funnel=funnel,
        source_notes=source_notes,
        rounds=rounds or Rounds(),
        published_column=PUBLISHED_COLUMN,
        levels=f"{energy} energies, {band_gap if campaign.computes_gaps else 'no'} gaps",
        figures={name: figure_data_uri(figure) for name, figure in figures.items()},
        captions=CAPTIONS,
        incomplete=INCOMPLETE_MARK,
        incomplete_means=INCOMPLETE_NOTE,
        has_incomplete=any(
            candidate.incomplete_band_gap is not None or candidate.energy_incomplete
            for candidate in ranked
        ),
        ranked=[
            (
                candidate,
                figure_data_uri(draw_structure(candidate.structure)),
                [caveats.index(caveat) + 1 for caveat in notes],
            )
            for candidate, notes in zip(ranked, notes_of, strict=True)
        ],
        methods=list(_methods(campaign)),
        caveats=caveats,
        when=f"{when:%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )


def draw_structure(structure: Structure | None) -> Figure:
    """Draw a unit cell, viewed slightly from above."""
    figure = Figure(figsize=(2.4, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    if structure is not None:
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        plot_atoms(atoms, axes, radii=0.5, rotation="-75x,15y,5z")
    return figure


def _methods(campaign: Campaign) -> Iterator[tuple[str, str]]:
    engines, settings = campaign.engines, campaign.aqueous_conditions
    yield "proposed by", ", ".join(campaign.sampling.proposers)
    if (prescreen := campaign.prescreen) is not None:
        confirming = prescreen.confirming(engines)
        second = f", confirmed by {confirming.name}" if confirming else ""
        yield "prescreen", f"relaxed with {prescreen.relaxing(engines).name}{second}"
    yield "energies", engines.energy.name
    hull = (
        f"convex hull of reference phases ({campaign.references.origin}) and all candidates of the "
        "same level of theory"
    )
    yield "stability", hull
    if settings is not None:
        pourbaix = (
            f"Pourbaix decomposition energy at {settings.potential_vs_rhe:g} V vs RHE, pH "
            f"{settings.ph_min:g} to {settings.ph_max:g}, ions {settings.ion_concentration:g} "
            f"mol/l ({settings.ion_set})"
        )
        yield "aqueous stability", pourbaix
    yield "space groups", "spglib, tolerances in parentheses"
    if campaign.computes_gaps:
        yield "band gaps", engines.band_gap.name
    funnel = campaign.funnel
    for name in dict.fromkeys(stage.property for stage in funnel.stages):
        if name in funnel.properties:
            yield funnel.quantity(name).label, f"computed by {funnel.properties[name].path}"
    stages = (f"{s.name} ({s.describe(funnel.quantity(s.property))})" for s in funnel.stages)
    yield "stages", ", ".join(stages)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:z.{digits}f}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
