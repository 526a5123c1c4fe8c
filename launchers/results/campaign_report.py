"""Results of a campaign: counts, figures and report, read from the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice, zip_longest
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition

from gan_htvs.core.candidate import PrescreenVerdict
from gan_htvs.core.figures import ImageFormat, add_warning, render_figure
from gan_htvs.core.files import write_atomically
from gan_htvs.core.stages import ScreeningStep, Stage, Step
from gan_htvs.prescreen.figure import EnergyTrajectory, draw_prescreen
from gan_htvs.prescreen.summary import summarize
from gan_htvs.results.builders.job_outputs import stored_reference_sets
from gan_htvs.results.campaign_inputs import INPUT_FIELDS, CampaignInputs, read_inputs
from gan_htvs.results.funnel import CANDIDATE_FIELDS, Funnel, crystal_id, measure_funnel
from gan_htvs.results.plots import (
    PLOT_FIELDS,
    draw_funnel,
    draw_gaps,
    draw_hull,
    draw_pourbaix,
)
from gan_htvs.results.rounds import ROUND_FIELDS, Rounds, read_rounds
from gan_htvs.results.store import CandidateStore
from launchers.launchpad.registry import owners_of, registered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Candidate
    from launchers.launchpad.database import Databases

PRESCREEN_FIELDS = tuple(f"prescreen.{name}" for name in PrescreenVerdict.model_fields)

MAX_TRAJECTORIES = 300
"""Maximum number of relaxations in a figure."""


@dataclass(frozen=True)
class Results:
    """A campaign, its candidates without structures, and its inputs."""

    campaign: Campaign
    rows: list[dict[str, Any]]
    inputs: CampaignInputs
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def funnel(self) -> Funnel:
        """Counts by stage."""
        return measure_funnel(
            self.rows,
            self.campaign,
            n_training=self.inputs.n_training,
            n_reference_phases=self.inputs.n_reference_phases,
        )

    @cached_property
    def prescreened(self) -> dict[str, PrescreenVerdict]:
        """Verdicts of the prescreen by candidate, in order of their ids; empty without one."""
        if self.campaign.prescreen is None:
            return {}
        return {
            row["candidate_id"]: PrescreenVerdict.model_validate(row["prescreen"])
            for row in sorted(self.rows, key=itemgetter("candidate_id"))
            if row.get("prescreen")
        }


def read_results(databases: Databases, name: str | None) -> Results:
    """Read the results of a campaign; ``name`` may be None if there is only one.

    Raises
    ------
    UserError
        If the campaign does not exist, or no name is given and there are several.
    """
    campaign = registered(databases, name)
    owners = owners_of(databases, campaign.name)
    fields = {*CANDIDATE_FIELDS, *PLOT_FIELDS, *PRESCREEN_FIELDS, *INPUT_FIELDS, *ROUND_FIELDS}
    fields |= {*campaign.funnel.fields}
    with databases.store("candidates", key="candidate_id") as candidates:
        rows = list(candidates.query({"campaign": campaign.name}, sorted(fields)))
    with databases.store("outputs", key="uuid") as outputs:
        inputs = read_inputs(outputs, campaign, rows, owners)
        return Results(campaign, rows, inputs, read_rounds(outputs, campaign, rows))


def read_trajectories(databases: Databases, results: Results) -> list[EnergyTrajectory]:
    """Read a sample of prescreen relaxations, balanced over rejection steps and survivors."""
    formulas = {row["candidate_id"]: row["formula_pretty"] for row in results.rows}
    # Ids are hashes: sorting by id gives a random but reproducible order.
    groups = [
        [item for item in results.prescreened.items() if item[1].rejected_at == rejected_at]
        for rejected_at in (*ScreeningStep, None)
    ]
    interleaved = filter(None, chain.from_iterable(zip_longest(*groups)))
    chosen = dict(islice(interleaved, MAX_TRAJECTORIES))
    query = {"metadata.campaign": results.campaign.name, "metadata.step": Step.PRESCREEN.value}
    fields = ["candidate_id", "relaxation.curve.energies"]
    with databases.store("outputs", key="uuid") as outputs:
        references_by_level = {
            references.level_of_theory: references
            for references in stored_reference_sets(outputs).values()
        }
        batches = list(outputs.query(query, [f"output.proposals.{field}" for field in fields]))
    curves = {
        proposal["candidate_id"]: proposal["relaxation"]["curve"]["energies"]
        for batch in batches
        for proposal in batch["output"]["proposals"]
        if proposal.get("relaxation")
    }
    trajectories = []
    for candidate_id, record in sorted(chosen.items()):
        references = references_by_level.get(str(record.level_of_theory))
        energies = curves.get(candidate_id)
        if references is not None and energies:
            hull = references.hull_energy(Composition(formulas[candidate_id]))
            above = [energy - hull for energy in energies]
            trajectories.append(EnergyTrajectory(record.rejected_at, above))
    return trajectories


def figures(results: Results, trajectories: Sequence[EnergyTrajectory] = ()) -> dict[str, Figure]:
    """Draw the figures for which there are data; return them by name.

    ``trajectories`` are relaxations of the prescreen, see :func:`read_trajectories`.
    """
    campaign, rows, funnel = results.campaign, results.rows, results.funnel
    stages = campaign.funnel
    drawn = {
        "funnel": draw_funnel(funnel),
        "prescreen": None,
        "hull": None,
        "pourbaix": draw_pourbaix(rows, stages),
        "gaps": draw_gaps(rows, stages),
    }
    if (references := results.inputs.references) is not None:
        used = references.content_hash
        compared = [row for row in rows if (row.get("gate") or {}).get("references") == used]
        system = references.within(campaign.chemical_system.elements)
        drawn["hull"] = draw_hull(compared, system, stages)
    if campaign.prescreen is not None:
        drawn["prescreen"] = draw_prescreen(
            summarize(results.prescreened.values()), trajectories, campaign.prescreen_window
        )
    shown = {name: figure for name, figure in drawn.items() if figure is not None}
    for figure in shown.values():
        add_warning(figure, funnel.hull_warning)
    return shown


def draw_figures(
    results: Results, folder: Path, trajectories: Sequence[EnergyTrajectory] = ()
) -> list[Path]:
    """Write the figures as PNG and SVG; return the paths.

    Raises
    ------
    UserError
        If the folder is not writable.
    """
    paths = []
    for name, figure in figures(results, trajectories).items():
        for form in ImageFormat:
            path = folder / f"{name}.{form}"
            write_atomically(path, render_figure(figure, form))
            paths.append(path)
    return paths


def write_report(databases: Databases, name: str | None, top: int) -> str:
    """Return the HTML report of a campaign with its ``top`` best candidates.

    Raises
    ------
    UserError
        If the campaign does not exist, or no name is given and there are several.
    """
    from gan_htvs.results.html_report import RANKED_FIELDS, render_report  # noqa: PLC0415 - slow

    results = read_results(databases, name)
    store = CandidateStore(databases.store("candidates", key="candidate_id"))
    # List each crystal once, with its duplicate of the furthest stage and lowest energy.
    ranked: dict[str, Candidate] = {}
    fields = (*RANKED_FIELDS, "duplicate_of")
    proposed: dict[str, Any] = {
        "campaign": results.campaign.name,
        "reference_phases": False,
        "unique": True,
    }
    stages = [stage.name for stage in results.campaign.stages]
    for stage in (*reversed(stages), Stage.RELAXED):
        if len(ranked) < top:
            for candidate in store.query(fields=fields, limit=top, stage=stage, **proposed):
                ranked.setdefault(crystal_id(dict(candidate)), candidate)
    best = list(ranked.values())[:top]
    drawn = figures(results, read_trajectories(databases, results))
    return render_report(
        results.campaign,
        results.funnel,
        drawn,
        best,
        datetime.now(UTC),
        results.inputs.source_notes,
        results.rounds,
    )
