"""What can happen to a job that is not its own doing, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LOSSES = 3
"""A job that was lost so often, or could not be imported, is no victim but the cause."""


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
    launch_id: int | None = None

    @classmethod
    def of(
        cls,
        trouble: Trouble,
        job: Mapping[str, Any],
        reason: str,
        launch: Mapping[str, Any] | None = None,
        cure: Cure = Cure.QUEUE,
    ) -> Self:
        """Make it from the documents of a job and of its last launch."""
        launch_id = launch["launch_id"] if launch else None
        return cls(trouble, cure, job["fw_id"], job["name"], reason, launch_id)
