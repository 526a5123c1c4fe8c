"""Count calculations, ionic steps and failures of a rehearsal by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from gan_htvs.candidate import Step
from launchers.console import out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from launchers.database import Databases

STAGES = (Step.RELAX, Step.STATIC, Step.HYBRID)

FIELDS = (
    "uuid",
    "metadata.step",
    "output.job",
    "output.corrections",
    "output.calcs_reversed.output.ionic_steps.e_0_energy",
    "output.custodian.corrections.errors",
)


@dataclass(frozen=True)
class StageCount:
    """Counts of the calculations of one stage.

    Attributes
    ----------
    stage
        The step of the flow.
    n_calculations
        Calculations that were started, including failed ones.
    n_failed
        Calculations without a result.
    n_corrected
        Calculations with a result after custodian had corrected errors.
    n_ionic_steps
        Ionic steps of all calculations with a result.
    """

    stage: Step
    n_calculations: int
    n_failed: int
    n_corrected: int
    n_ionic_steps: int


def read_counts(databases: Databases) -> list[StageCount]:
    """Count all calculations in the database of a rehearsal."""
    with databases.store("outputs", key="uuid") as outputs:
        documents = list(
            outputs.query({"metadata.step": {"$in": [s.value for s in STAGES]}}, list(FIELDS))
        )
    return [
        count_stage(stage, [d for d in documents if d["metadata"]["step"] == stage.value])
        for stage in STAGES
    ]


def count_stage(stage: Step, documents: Iterable[Mapping[str, Any]]) -> StageCount:
    """Count the calculations of one stage.

    Parameters
    ----------
    stage
        The step of the flow.
    documents
        Documents of the job store. Relaxations with a potential, and jobs that only pass on the
        failure of a previous job, are not counted.
    """
    results, n_failed = [], 0
    for document in documents:
        output = document["output"]
        if calculations := output.get("calcs_reversed"):
            results.append((output, calculations[0]["output"]["ionic_steps"]))
        elif "job" in output:
            n_failed += output["job"] == document["uuid"]
    return StageCount(
        stage=stage,
        n_calculations=len(results) + n_failed,
        n_failed=n_failed,
        n_corrected=sum(_is_corrected(output) for output, _ in results),
        n_ionic_steps=sum(len(steps) for _, steps in results),
    )


def _is_corrected(output: Mapping[str, Any]) -> bool:
    return any(run.get("corrections") for run in output.get("custodian") or ())


def print_counts(counts: Iterable[StageCount]) -> None:
    """Print the table of all stages."""
    table = Table(title="Calculations", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("stage")
    for name in ("calculations", "failed", "with corrected errors", "ionic steps"):
        table.add_column(name, justify="right")
    for count in counts:
        table.add_row(
            count.stage.value,
            f"{count.n_calculations:,}",
            f"{count.n_failed:,}",
            f"{count.n_corrected:,}",
            f"{count.n_ionic_steps:,}",
        )
    out.print(table)
