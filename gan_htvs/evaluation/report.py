"""The files that an evaluation leaves behind."""

from __future__ import annotations

import csv
import io
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from gan_htvs.evaluation.documents import Evaluation, Report, Sample
from gan_htvs.evaluation.figure import draw_report
from gan_htvs.files import write_atomically
from gan_htvs.identity import content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from gan_htvs.dataset import Dataset
    from gan_htvs.generator.checkpoint import TrainedGenerator

JSON_FILE, CSV_FILE, FIGURE_FILE = "evaluation.json", "samples.csv", "evaluation.png"

_PACKAGES = ("gan-htvs", "pymatgen", "torch", "chgnet", "pyxtal")

_CSV_FIELDS = tuple(name for name in Sample.model_fields if name != "structure")


def make_report(
    campaign: Campaign,
    trained: TrainedGenerator,
    dataset: Dataset,
    evaluations: Sequence[Evaluation],
) -> Report:
    """Put evaluations together with where they come from.

    Parameters
    ----------
    campaign, trained, dataset
        What was evaluated; the dataset before its split. The campaign's compositions are those
        of the evaluations.
    evaluations
        The generator first.
    """
    options = [(e.proposer, e.n_samples, e.n_relaxed, e.seed) for e in evaluations]
    return Report(
        campaign=campaign.name,
        checkpoint=trained.sha256,
        steps=trained.steps,
        training_seconds=trained.seconds,
        dataset=dataset.hash,
        held_out=campaign.dataset.held_out,
        settings=content_hash("evaluation", campaign, dataset.hash, options),
        versions={name: _version(name) for name in _PACKAGES},
        evaluations=list(evaluations),
    )


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write the report, its samples one by one, and its figure.

    Returns
    -------
    Paths of ``evaluation.json``, ``samples.csv`` and ``evaluation.png``.

    Raises
    ------
    UserError
        If the directory cannot be written to.
    """
    contents = {
        JSON_FILE: report.model_dump_json(indent=1).encode(),
        CSV_FILE: samples_csv(report.evaluations).encode(),
        FIGURE_FILE: draw_report(report),
    }
    for name, data in contents.items():
        write_atomically(directory / name, data)
    return [directory / name for name in contents]


def samples_csv(evaluations: Sequence[Evaluation]) -> str:
    """One line for each sample of each proposer; lists are separated by spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("proposer", *_CSV_FIELDS))
    for evaluation in evaluations:
        for sample in evaluation.samples:
            values = (getattr(sample, name) for name in _CSV_FIELDS)
            writer.writerow(
                (
                    evaluation.proposer,
                    *(" ".join(map(str, v)) if isinstance(v, tuple) else v for v in values),
                )
            )
    return text.getvalue()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
