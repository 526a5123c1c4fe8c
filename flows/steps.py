"""What every job carries: the campaign it belongs to, the step that it is, where it runs.

Owner and step stand in the Firework's spec and in the stored document, so that workers can pick
the jobs of one campaign, and progress can be counted, without looking inside a job.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, JobConfig, OnMissing

from flows.routing import route
from gan_htvs.candidate import Verdict
from gan_htvs.documents import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobflow import Job

    from gan_htvs.candidate import Step
    from gan_htvs.routing import Category

SHARED = "*"
"""Stands for the campaign in the names of jobs that several campaigns use."""

READS_STORE = JobConfig(expose_store=True)
"""For jobs that look documents up by uuid."""

READS_STORE_TOLERANT = JobConfig(expose_store=True, on_missing_references=OnMissing.NONE)
"""The same, for a job that must run, and say so, when what it depends on has failed."""


def label(
    work: Job | Flow,
    owner: str,
    step: Step,
    category: Category,
    *,
    fans_out: bool = False,
    **more: Any,
) -> None:
    """Write owner and step on a job or on every job of a flow, and send it to its workers.

    The owner is a campaign or, for work that campaigns share, the uuid of the job that the work
    is done for. What a job that fans out makes has labels and workers of its own.
    """
    metadata = {"campaign": owner, "step": step.value, **more}
    work.update_metadata(metadata, dynamic=False)
    route(work, category, step, passes_on=not fans_out)


class Continuation(Flow):
    """What a running job adds, whose jobs refer to the output of that job.

    A structure stands where the job that found it has stored it: the jobs that it is sent to hold
    a reference. Jobflow takes the reference to a job outside the flow for an error, unless the
    whole flow may have any; these are stored before the flow is queued.

    Parameters
    ----------
    sources
        uuids of the outputs that the jobs may refer to.
    jobs
        The jobs or flows to add.
    **kwargs
        Passed to :class:`jobflow.Flow`.
    """

    def __init__(self, sources: Iterable[str], jobs: Sequence[Job | Flow], **kwargs: Any) -> None:
        self.sources = tuple(sources)
        super().__init__(jobs, **kwargs)

    @property
    def job_uuids(self) -> tuple[str, ...]:
        """Uuids that its jobs may refer to."""
        return (*super().job_uuids, *self.sources)


def stored_output(uuid: str) -> Any:
    """Fetch the output of another job from inside a running job."""
    output = CURRENT_JOB.store.get_output(uuid, load=True)
    return decode(output)


def stored_outputs(uuids: Iterable[str]) -> dict[str, Any]:
    """Fetch outputs of other jobs from inside a running job, all at once, by uuid."""
    found = CURRENT_JOB.store.query({"uuid": {"$in": list(uuids)}}, ["uuid", "output"])
    return {document["uuid"]: decode(document["output"]) for document in found}


def store_outputs(outputs: Mapping[str, Any], *, campaign: str, **metadata: Any) -> None:
    """Store objects from inside a running job, each as if it were the output of a job of its own.

    Jobflow loads and decodes a whole output for each reference into it: a tenth of a second if that
    is a list of 50 structures. What names no campaign would be in no archive of one.
    """
    if not outputs:
        return
    now = datetime.now().isoformat()  # noqa: DTZ005 - as jobflow writes it
    CURRENT_JOB.store.update(
        [
            {
                "uuid": uuid,
                "index": 1,
                "output": output,
                "completed_at": now,
                "metadata": {"campaign": campaign} | metadata | _whose(output),
            }
            for uuid, output in outputs.items()
        ]
    )


def _whose(output: Any) -> dict[str, str]:
    """Name the candidate of a verdict, by which builders find it."""
    return {"candidate_id": output.candidate_id} if isinstance(output, Verdict) else {}


def is_stored(uuid: str) -> bool:
    """Whether a job with this uuid has already left its output."""
    return CURRENT_JOB.store.count({"uuid": uuid}) > 0
