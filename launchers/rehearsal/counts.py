"""Count calculations, ionic steps and failures of a rehearsal by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_htvs.core.stages import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launchers.launchpad.database import Databases

STAGES = (Step.RELAX, Step.STATIC, Step.HYBRID)

FIELDS = [
    "uuid",
    "metadata.step",
    "output.job",
    "output.calcs_reversed.output.ionic_steps.e_0_energy",
    "output.custodian.corrections.errors",
]


@dataclass(frozen=True)
class StageCount:
    """Counts of the calculations of one stage.

    Attributes
    ----------
    stage
        The step of the flow.
    n_calculations
        Started calculations, including failed ones.
    n_failed
        Calculations without a result.
    n_corrected
        Calculations with a result whose errors custodian corrected.
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
        return [
            count_stage(stage, list(outputs.query({"metadata.step": stage.value}, FIELDS)))
            for stage in STAGES
        ]


def count_stage(stage: Step, documents: Sequence[Mapping[str, Any]]) -> StageCount:
    """Count the calculations of one stage.

    Parameters
    ----------
    stage
        The step of the flow.
    documents
        Documents of the job store. Relaxations with a potential are not counted, nor are jobs that
        only pass on the failure of a previous job.
    """
    outputs = [document["output"] for document in documents]
    results = [output for output in outputs if output.get("calcs_reversed")]
    n_failed = sum(document["output"].get("job") == document["uuid"] for document in documents)
    corrected = (
        any(run.get("corrections") for run in result.get("custodian") or ()) for result in results
    )
    steps = (result["calcs_reversed"][0]["output"]["ionic_steps"] for result in results)
    return StageCount(
        stage, len(results) + n_failed, n_failed, sum(corrected), sum(map(len, steps))
    )
