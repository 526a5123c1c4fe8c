"""What can happen to a job that is not its own doing, and what is done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pydoc import locate
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob

MAX_LOSSES = 3
"""A job that was lost so often, or could not be imported, is not the victim but the cause."""

NOT_IMPORTED = re.compile("ModuleNotFoundError|ImportError")
"""Begins the errors of jobs that could not be imported."""


class Trouble(StrEnum):
    """What can happen to a job that is not the job's own doing."""

    LOCK = "locked workflow"
    END = "end not recorded"
    RUN = "lost run"
    RESERVATION = "lost reservation"
    IMPORT = "cannot be imported"


class Cure(StrEnum):
    """What is done about it."""

    QUEUE = "queued again"
    FINISH = "finished"
    FAIL = "marked as failed"
    LEAVE = "left as it is"


@dataclass(frozen=True)
class Loss:
    """A job in trouble and what is to be done about it."""

    trouble: Trouble
    cure: Cure
    fw_id: int
    name: str
    reason: str
    state: str | None = None
    launch_id: int | None = None

    @classmethod
    def of(cls, trouble: Trouble, job: QueuedJob, reason: str, cure: Cure = Cure.QUEUE) -> Self:
        """Make it from a job, whose state and last launch it remembers."""
        return cls(trouble, cure, job.fw_id, job.name, reason, job.state, job.launch_id)


def failed_imports(launchpad: CampaignLaunchPad, owners: Sequence[str] | None) -> list[Loss]:
    """Find jobs that failed because a machine could not import them."""
    return [
        _unimportable(launchpad, job)
        for job in launchpad.jobs(owners, states=["FIZZLED"])
        # A job without a launch could not be loaded, whatever the error was.
        if (NOT_IMPORTED.match(job.error) if job.launch else job.load_error)
    ]


def _unimportable(launchpad: CampaignLaunchPad, job: QueuedJob) -> Loss:
    where = f" on {job.launch['host']}" if job.launch else ""
    cure = Cure.LEAVE
    if missing := _missing_import(launchpad, job):
        reason = f"{missing} (here; install it on this machine and the nodes)"
    elif len(job.archived_launches) + 1 >= MAX_LOSSES:
        reason = f"{job.error} (only{where}; install it there, then `gan-htvs lpad rerun_fws`)"
    else:
        reason, cure = f"{job.error}{where}", Cure.QUEUE
    return Loss.of(Trouble.IMPORT, job, reason, cure)


def _missing_import(launchpad: CampaignLaunchPad, job: QueuedJob) -> str | None:
    """Return what keeps a job from being imported here; None if nothing does."""
    missing = re.search(r"(?:cannot import name '(\w+)' from|named) '([\w.]+)'", job.error)
    try:
        if missing and locate(".".join(filter(None, missing.group(2, 1)))) is None:
            return job.error
        launchpad.get_fw_by_id(job.fw_id)
    except Exception as error:  # noqa: BLE001 - whatever importing somebody's module raises
        return f"{type(error).__name__}: {error}"
    return None
