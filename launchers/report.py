"""What a campaign found: its counts and its figures, read from the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition

from gan_htvs.candidate import Hurdle, Prescreened, Stage
from gan_htvs.documents import decode
from gan_htvs.figures import ImageFormat, rendered
from gan_htvs.files import write_atomically
from gan_htvs.funnel import CANDIDATE_FIELDS, Funnel, crystal, measure_funnel
from gan_htvs.plots import (
    PLOT_FIELDS,
    draw_funnel,
    draw_gaps,
    draw_hull,
    draw_pourbaix,
)
from gan_htvs.prescreen.figure import EnergyTrajectory, draw_prescreen
from gan_htvs.prescreen.summary import summarise
from gan_htvs.store import CandidateStore
from launchers.registry import registered, require_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Candidate
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from launchers.database import Databases

PRESCREEN_FIELDS = tuple(f"prescreen.{name}" for name in Prescreened.model_fields)

RANKED = (Stage.PHOTOANODE, Stage.POURBAIX_STABLE, Stage.STABLE, Stage.RELAXED)
"""Stages of candidates that are worth a picture, best first."""

MOST_TRAJECTORIES = 300
"""Relaxations that are drawn."""


@dataclass(frozen=True)
class Results:
    """A campaign, its candidates without structures, and what they were compared with.

    Attributes
    ----------
    references
        The set that most candidates were compared with, by uuid; None before any was.
    n_training
        Structures that its generators learnt from, if that is known.
    """

    campaign: Campaign
    rows: list[dict[str, Any]]
    references: tuple[str, ReferenceSet] | None
    n_training: int | None

    @property
    def funnel(self) -> Funnel:
        """Counts by stage."""
        return measure_funnel(self.rows, self.campaign, self.n_training)

    @cached_property
    def prescreened(self) -> list[Prescreened]:
        """Records of the prescreen; none without one."""
        if self.campaign.prescreen is None:
            return []
        records = (row.get("prescreen") for row in self.rows)
        return [Prescreened.model_validate(record) for record in records if record]


def read_results(databases: Databases, name: str | None) -> Results:
    """Read the results of a campaign; of the only one if no name is given.

    Raises
    ------
    UserError
        If there is no such campaign, or several and no name.
    """
    campaign = registered(databases, name)
    fields = sorted(
        {*CANDIDATE_FIELDS, *PLOT_FIELDS, *PRESCREEN_FIELDS}
        | {"gate.references", "origin.checkpoint"}
    )
    with databases.store("candidates", key="candidate_id") as candidates:
        rows = list(candidates.query({"campaign": campaign.name}, fields))
    uuids = Counter((row.get("gate") or {}).get("references") for row in rows)
    checkpoints = sorted({row["origin"].get("checkpoint") or "" for row in rows} - {""})
    references, n_training = None, None
    with databases.store("outputs", key="uuid") as outputs:
        for uuid, _ in uuids.most_common():
            document = outputs.query_one({"uuid": uuid}) if uuid else None
            if uuid and document is not None:
                references = str(uuid), decode(document["output"])
                break
        trained = list(
            outputs.query({"output.sha256": {"$in": checkpoints}}, ["output.dataset.structures"])
        )
    sizes = [(document["output"].get("dataset") or {}).get("structures") for document in trained]
    if len(sizes) == 1:
        (n_training,) = sizes
    return Results(campaign, rows, references, n_training)


def read_trajectories(databases: Databases, results: Results) -> list[EnergyTrajectory]:
    """Read some relaxations of the prescreen, of each way to leave it alike."""
    formulas = {row["candidate_id"]: row["formula_pretty"] for row in results.rows}
    # Sorted by ids, which are hashes, they are in no order.
    records = sorted(results.prescreened, key=lambda record: record.candidate_id)
    kinds = [
        [record for record in records if record.hurdle == hurdle and record.descent]
        for hurdle in (*Hurdle, None)
    ]
    by_turns = filter(None, chain.from_iterable(zip_longest(*kinds)))
    chosen = {str(record.descent): record for record in islice(by_turns, MOST_TRAJECTORIES)}
    if not chosen or results.references is None:
        return []
    # Seconds, which the counts need not wait for.
    from flows.prescreen import reference_uuids  # noqa: PLC0415

    relaxing, _ = reference_uuids(results.campaign, results.references[0])
    with databases.store("outputs", key="uuid") as outputs:
        document = outputs.query_one({"uuid": relaxing})
        if document is None:
            return []
        references = decode(document["output"])
        curves = outputs.query(
            {"uuid": {"$in": list(chosen)}}, ["uuid", "output.curve.energies"], sort={"uuid": 1}
        )
        energies = {each["uuid"]: each["output"]["curve"]["energies"] for each in curves}
    trajectories = []
    for uuid, energy in energies.items():
        record = chosen[uuid]
        hull = references.hull_energy(Composition(formulas[record.candidate_id]))
        trajectories.append(EnergyTrajectory(record.hurdle, [each - hull for each in energy]))
    return [trajectory for trajectory in trajectories if trajectory.above_hull]


def figures(results: Results, trajectories: Sequence[EnergyTrajectory] = ()) -> dict[str, Figure]:
    """Draw what there is to see, by name.

    ``trajectories`` are relaxations of the prescreen, see :func:`read_trajectories`.
    """
    thresholds, rows = results.campaign.thresholds, results.rows
    hull = None
    if results.references is not None:
        uuid, references = results.references
        compared = [row for row in rows if (row.get("gate") or {}).get("references") == uuid]
        hull = draw_hull(compared, references, thresholds)
    prescreen = None
    if (settings := results.campaign.prescreen) is not None:
        window = settings.window or thresholds.metastable
        prescreen = draw_prescreen(summarise(results.prescreened), trajectories, window)
    drawn = {
        "funnel": draw_funnel(results.funnel),
        "prescreen": prescreen,
        "hull": hull,
        "pourbaix": draw_pourbaix(rows, thresholds),
        "gaps": draw_gaps(rows, thresholds),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def draw_figures(
    results: Results, folder: Path, trajectories: Sequence[EnergyTrajectory] = ()
) -> list[Path]:
    """Draw what there is to see as PNG and SVG, and return the files.

    Raises
    ------
    UserError
        If the folder cannot be written, or the campaign is a rehearsal.
    """
    require_results(results.campaign)
    paths = []
    for name, figure in figures(results, trajectories).items():
        for form in ImageFormat:
            path = folder / f"{name}.{form}"
            write_atomically(path, rendered(figure, form))
            paths.append(path)
    return paths


def write_report(databases: Databases, name: str | None, top: int) -> str:
    """Write the report of a campaign, see :mod:`gan_htvs.html_report`, with its best candidates.

    Raises
    ------
    UserError
        If there is no such campaign, several and no name, or it is a rehearsal.
    """
    from gan_htvs.html_report import RANKED_FIELDS, render_report  # noqa: PLC0415 - slow

    results = read_results(databases, name)
    require_results(results.campaign)
    store = CandidateStore(databases.store("candidates", key="candidate_id"))
    # Of a crystal that was found several times, who came furthest; of these, the lowest in energy.
    ranked: dict[str, Candidate] = {}
    for stage in RANKED:
        if len(ranked) < top:
            for each in store.query(
                fields=(*RANKED_FIELDS, "duplicate_of"),
                limit=top,
                campaign=results.campaign.name,
                stage=stage,
                known_phases=False,
                unique=True,
            ):
                ranked.setdefault(crystal(dict(each)), each)
    best = list(ranked.values())[:top]
    drawn = figures(results, read_trajectories(databases, results))
    return render_report(results.campaign, results.funnel, drawn, best, datetime.now(UTC))
