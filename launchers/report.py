"""What a campaign found: its counts and its figures, read from the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_htvs.documents import decode
from gan_htvs.files import write_atomically
from gan_htvs.funnel import CANDIDATE_FIELDS, Funnel, measure_funnel
from gan_htvs.plots import PLOT_FIELDS, draw_funnel, draw_gaps, draw_hull, draw_pourbaix
from launchers.registry import registered, require_results

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from launchers.database import Databases


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


def read_results(databases: Databases, name: str | None) -> Results:
    """Read the results of a campaign; of the only one if no name is given.

    Raises
    ------
    UserError
        If there is no such campaign, or several and no name.
    """
    campaign = registered(databases, name)
    fields = sorted({*CANDIDATE_FIELDS, *PLOT_FIELDS, "gate.references", "origin.checkpoint"})
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


def draw_figures(results: Results, folder: Path) -> list[Path]:
    """Draw what there is to see and return the files.

    Raises
    ------
    UserError
        If the folder cannot be written, or the campaign is a rehearsal.
    """
    require_results(results.campaign)
    thresholds, rows = results.campaign.thresholds, results.rows
    hull = None
    if results.references is not None:
        uuid, references = results.references
        compared = [row for row in rows if (row.get("gate") or {}).get("references") == uuid]
        hull = draw_hull(compared, references, thresholds)
    drawn = {
        "funnel.png": draw_funnel(results.funnel),
        "hull.png": hull,
        "pourbaix.png": draw_pourbaix(rows, thresholds),
        "gaps.png": draw_gaps(rows, thresholds),
    }
    files = {folder / name: image for name, image in drawn.items() if image is not None}
    for path, image in files.items():
        write_atomically(path, image)
    return list(files)
