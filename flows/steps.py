"""What every job carries: the campaign it belongs to and the step that it is.

Both stand in the Firework's spec and in the stored document, so that workers can pick the
jobs of one campaign, and progress can be counted, without looking inside a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, JobConfig, OnMissing

from gan_htvs.documents import decode

if TYPE_CHECKING:
    from jobflow import Flow, Job

    from gan_htvs.candidate import Step

SHARED = "*"
"""Stands for the campaign in the names of jobs that several campaigns use."""

READS_STORE = JobConfig(expose_store=True)
"""For jobs that look documents up by uuid: dynamic jobs may not hold external references."""

READS_STORE_TOLERANT = JobConfig(expose_store=True, on_missing_references=OnMissing.NONE)
"""The same, for a job that must run, and say so, when what it depends on has failed."""


def label(work: Job | Flow, owner: str, step: Step, **more: Any) -> None:
    """Write owner and step on a job or on every job of a flow.

    The owner is a campaign or, for work that campaigns share, the uuid of the job that the work
    is done for.
    """
    metadata = {"campaign": owner, "step": step.value, **more}
    # Not dynamic: what a job spawns has labels of its own.
    work.update_metadata(metadata, dynamic=False)


def stored_output(uuid: str) -> Any:
    """Fetch the output of another job from inside a running job."""
    output = CURRENT_JOB.store.get_output(uuid, load=True)
    return decode(output)


def is_stored(uuid: str) -> bool:
    """Whether a job with this uuid has already left its output."""
    return CURRENT_JOB.store.count({"uuid": uuid}) > 0
