"""The status of campaigns as a document."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.stages import Step
from gan_htvs.results.funnel import Funnel
from gan_htvs.results.rounds import Rounds
from launchers.launchpad.jobs import ACTIVE_STATES, HELD_STATES
from launchers.monitor.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_VERDICTS_FOR_RATE = 10
"""If the last hour has fewer verdicts, the rate of the last day is used."""


class StatusDocument(BaseModel):
    """Base class of the parts of a status."""

    model_config = ConfigDict(frozen=True)


class JobCount(StatusDocument):
    """Number of jobs of one step, state and category."""

    step: Step
    state: str
    category: str | None = Field(None, description="None: workers without a category run them")
    n: int
    since: datetime = Field(description="earliest update of these jobs")


class WorkingHost(StatusDocument):
    """The running jobs of one FWorker on one host, in one batch job."""

    name: str = Field(title="worker", description="name of the FWorker")
    host: str
    batch_job: str | None = Field(None, description="batch system and id")
    categories: tuple[str, ...] = Field((), description="categories that it runs; empty: all")
    steps: dict[Step, int] = Field(title="runs", description="running jobs by step")
    since: datetime = Field(description="start of the oldest running job")
    last_ping: datetime = Field(description="latest ping of any of the jobs")


class Throughput(StatusDocument):
    """Jobs and candidates finished in a period."""

    period: str
    hours: float = Field(gt=0, description="length of the period, at most the age of the campaign")
    n_jobs: int = Field(title="jobs finished")
    n_verdicts: int = Field(title="candidates evaluated", description="without reference phases")

    @computed_field(title="candidates/h")  # type: ignore[prop-decorator]
    @property
    def verdicts_per_hour(self) -> float:
        """Candidates evaluated per hour."""
        return self.n_verdicts / self.hours


class FailureCount(StatusDocument):
    """Failures of one kind."""

    kind: Literal["job", "calculation"] = Field(
        title="what", description="'job': raised an exception; 'calculation': returned no result"
    )
    step: str = Field(description="step of the job, or name of the calculation, e.g. 'FM relax 2'")
    reason: str
    example: str = Field(title="for example", description="folder or id of one of them")
    n: int


def count_failures(
    kind: Literal["job", "calculation"], failures: Iterable[tuple[str, str, str]]
) -> list[FailureCount]:
    """Count failures by step and reason, the most frequent first.

    ``failures`` are tuples of step, reason and example.
    """
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for step, reason, example in failures:
        groups[step, reason].append(example)
    return [
        FailureCount(kind=kind, step=step, reason=reason, n=len(examples), example=examples[0])
        for (step, reason), examples in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


class CampaignStatus(StatusDocument):
    """Status of one campaign.

    Its jobs include references and training, which other campaigns may share.
    """

    campaign: Campaign = Field(exclude=True, repr=False)
    name: str = Field(description="name of the campaign")
    n_requested: int = Field(
        description="requested structures: compositions x structures x proposers"
    )
    began_on: datetime | None = Field(
        None, description="when its first job was queued; None: no job was queued"
    )
    n_not_proposed: int = Field(
        description="structures that the proposers did not find, or of rounds that are not needed"
    )
    n_evaluated: int = Field(description="candidates with a verdict, without reference phases")
    built_on: datetime | None = Field(None, description="last change of a candidate's document")
    n_unbuilt: int = Field(description="verdicts since the last build, missing in the funnel")
    source_notes: tuple[str, ...] = Field(
        (), description="files and structures that were skipped, or changed when read"
    )
    rounds: Rounds = Field(Rounds(), description="rounds of sampling, if there are several")
    funnel: Funnel
    jobs: tuple[JobCount, ...]
    workers: tuple[WorkingHost, ...]
    throughput: tuple[Throughput, ...] = Field(
        description="last hour, last day, since start; of a finished campaign from the first to "
        "the last job"
    )
    failures: tuple[FailureCount, ...]
    findings: tuple[Finding, ...] = Field(
        (), description="problems that prevent progress, with their fix"
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def n_remaining(self) -> int:
        """Number of structures that are not evaluated yet."""
        return max(self.n_requested - self.n_not_proposed - self.n_evaluated, 0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_finished(self) -> bool:
        """Whether all structures are evaluated and no job is queued, running or held back."""
        return not (self.n_remaining or self.count("WAITING", *HELD_STATES) or self.is_active)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_stuck(self) -> bool:
        """Whether the campaign is unfinished and has no job that is running or can run."""
        return not (self.is_active or self.is_finished)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds_remaining(self) -> float | None:
        """Time for the remaining structures at the recent rate, s; None: unknown.

        The rate is that of the last hour, or of the last day if the last hour had few verdicts.
        """
        if not self.n_remaining:
            return 0
        rate = self.recent.verdicts_per_hour
        return 3600 * self.n_remaining / rate if rate else None

    @property
    def is_active(self) -> bool:
        """Whether a job is running or can run."""
        return self.count(*ACTIVE_STATES) > 0

    @property
    def recent(self) -> Throughput:
        """The throughput from which the remaining time is estimated."""
        hour, day, *_ = self.throughput
        return hour if hour.n_verdicts >= MIN_VERDICTS_FOR_RATE else day

    def count(self, *states: str) -> int:
        """Count the jobs in these states."""
        return sum(job.n for job in self.jobs if job.state in states)


class Status(StatusDocument):
    """Status of the requested campaigns."""

    checked_on: datetime
    campaigns: tuple[CampaignStatus, ...]
    unreadable: tuple[str, ...] = Field(
        (), description="messages about campaigns with the settings of another version"
    )
