"""The status of campaigns as a document."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.stages import Step
from gan_htvs.results.funnel import Funnel
from launchers.launchpad.jobs import ACTIVE_STATES
from launchers.monitor.findings import Finding

MIN_VERDICTS_FOR_RATE = 10
"""Fewer than these in an hour tell no rate; that of a day is taken."""


class StatusDocument(BaseModel):
    """Base of what a status is made of."""

    model_config = ConfigDict(frozen=True)


class JobCount(StatusDocument):
    """Jobs of one step in one state, of one category."""

    step: Step
    state: str
    category: str | None = Field(description="None: any worker without a category takes them")
    n: int
    since: datetime = Field(description="when the first of them got into this state")


class WorkingHost(StatusDocument):
    """The running jobs of one FWorker on one host, in one batch job."""

    name: str = Field(title="worker", description="of the FWorker")
    host: str
    batch_job: str | None = Field(None, description="batch system and id")
    categories: tuple[str, ...] = Field((), description="that it takes; none: all")
    steps: dict[Step, int] = Field(title="runs", description="running jobs by step")
    since: datetime = Field(description="start of the one that has run longest")
    last_ping: datetime = Field(description="the latest sign of life of any")


class Throughput(StatusDocument):
    """What was finished in the last hours."""

    period: str
    hours: float = Field(gt=0, description="length of the period, as far as the campaign existed")
    n_jobs: int = Field(title="jobs finished")
    n_verdicts: int = Field(
        title="candidates judged", description="reference phases are not counted"
    )

    @computed_field(title="candidates/h")  # type: ignore[prop-decorator]
    @property
    def verdicts_per_hour(self) -> float:
        """Rate at which candidates are judged."""
        return self.n_verdicts / self.hours


class FailureCount(StatusDocument):
    """Failures of one kind."""

    kind: Literal["job", "calculation"] = Field(
        title="what", description="'job': it raised; 'calculation': it left no result"
    )
    step: str = Field(description="of a job; or the name of the calculation, as 'FM relax 2'")
    reason: str
    example: str = Field(title="for example", description="where to look at one of them")
    n: int


class CampaignStatus(StatusDocument):
    """How one campaign stands.

    References and training count among its jobs, though other campaigns may share them.
    """

    campaign: Campaign = Field(exclude=True, repr=False)
    name: str = Field(description="of the campaign")
    n_requested: int = Field(description="structures: compositions x structures x proposers")
    began_on: datetime | None = Field(
        None, description="when its first job was queued; None: none was"
    )
    n_not_proposed: int = Field(description="that the proposers did not find")
    n_evaluated: int = Field(description="candidates with a verdict, reference phases left out")
    built_on: datetime | None = Field(None, description="last change of a candidate's document")
    n_unbuilt: int = Field(description="verdicts that the funnel does not show yet")
    funnel: Funnel
    jobs: tuple[JobCount, ...]
    workers: tuple[WorkingHost, ...]
    throughput: tuple[Throughput, ...] = Field(description="last hour, last day, since it began")
    failures: tuple[FailureCount, ...]
    findings: tuple[Finding, ...] = Field((), description="what prevents progress, and the fix")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def n_remaining(self) -> int:
        """Structures that are still to be judged."""
        return max(self.n_requested - self.n_not_proposed - self.n_evaluated, 0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.n_remaining or self.count("WAITING") or self.is_active)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_stuck(self) -> bool:
        """Whether something is left, and no job that could run brings it nearer."""
        return not (self.is_active or self.is_finished)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds_remaining(self) -> float | None:
        """How long the structures that are left take at the recent rate; None: not known.

        The rate is that of the last hour, or of the last day if the hour brought few verdicts.
        """
        rate = self.recent.verdicts_per_hour
        if not self.n_remaining or not rate:
            return None if self.n_remaining else 0
        return 3600 * self.n_remaining / rate

    @property
    def is_active(self) -> bool:
        """Whether a job runs or could."""
        return self.count(*ACTIVE_STATES) > 0

    @property
    def recent(self) -> Throughput:
        """The throughput that tells most about the next hours."""
        hour, day, _ = self.throughput
        return hour if hour.n_verdicts >= MIN_VERDICTS_FOR_RATE else day

    def count(self, *states: str) -> int:
        """Count the jobs in these states."""
        return sum(job.n for job in self.jobs if job.state in states)


class Status(StatusDocument):
    """How all campaigns asked for stand."""

    checked_on: datetime
    campaigns: tuple[CampaignStatus, ...]
    unreadable: tuple[str, ...] = Field(
        (), description="messages about campaigns with the settings of another version"
    )
