"""What keeps a campaign from going on, each with its cure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fireworks.fw_config import RUN_EXPIRATION_SECS

from launchers.batch import BatchQueue
from launchers.launchpad import moment
from launchers.status import runs
from launchers.status.document import Obstacle
from launchers.words import counted, span
from launchers.workers import Life

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from launchers.locks import Locks
    from launchers.status.census import Census
    from launchers.status.document import CampaignStatus, JobCount
    from launchers.status.runs import Run

IDLE = timedelta(minutes=10)
"""A worker that was seen within this may be looking for its next job."""

SILENT = timedelta(seconds=RUN_EXPIRATION_SECS)
"""FireWorks' own patience with a run."""

LOCK_SECONDS = 2.0
"""What a look takes at most to tell a lock that stays; `gan-htvs recover` is in less of a hurry."""

LOCAL_CURE = "gan-htvs run CAMPAIGN.YAML"


def obstacles(
    census: Census,
    locks: Locks,
    status: CampaignStatus,
    at_work: Sequence[Run],
    submission: Mapping[str, Any],
    *,
    now: datetime,
    is_embedded: bool,
) -> Iterator[Obstacle]:
    """Find what keeps a campaign from going on.

    Parameters
    ----------
    census
        Queries about it.
    locks
        Of its launchpad.
    status
        What is known of it.
    at_work
        Its running jobs.
    submission
        What its submitter left; may be empty.
    now
        The time.
    is_embedded
        Whether no other machine can reach the database.
    """
    yield from _standstill(census, status)
    yield from _lost_runs(at_work, now, everyone_is_here=is_embedded)
    yield from _idle_categories(census, status, at_work, now, is_embedded=is_embedded)
    if abandoned := locks.settle(LOCK_SECONDS, _workflows(census)):
        yield Obstacle(
            found=f"{counted(len(abandoned), 'workflow')} locked for more than {LOCK_SECONDS:g} s, "
            "as by a worker that died in an update",
            cure="gan-htvs recover",
        )
    if versions := submission.get("versions"):
        others = runs.other_versions(census, versions, moment(submission["submitted_on"]))
        for where, n in others.items():
            yield Obstacle(
                found=f"{counted(n, 'job')} with other packages than the submission, on {where}",
                cure="install the same versions on all machines: constraints.txt",
            )


def _standstill(census: Census, status: CampaignStatus) -> Iterator[Obstacle]:
    if n_held := status.count("PAUSED", "DEFUSED"):
        yield Obstacle(
            found=f"{counted(n_held, 'job')} taken out of the queue by hand",
            cure="gan-htvs lpad resume_fws -s PAUSED; gan-htvs lpad reignite_fws -s DEFUSED",
        )
    if not status.is_stuck:
        return
    if fizzled := census.holding_up():
        yield Obstacle(
            found=f"all that is left waits for {counted(len(fizzled), 'job')} that FIZZLED",
            cure=f"correct the cause, then gan-htvs retry {status.name}",
        )
    else:
        yield Obstacle(
            found=f"{counted(status.n_left, 'structure')} left, and no job of it is queued",
            cure="gan-htvs submit CAMPAIGN.YAML",
        )


def _lost_runs(
    at_work: Sequence[Run], now: datetime, *, everyone_is_here: bool
) -> Iterator[Obstacle]:
    queue = BatchQueue()
    lives = [
        run.worker.life(queue, everyone_is_here=everyone_is_here) if run.worker else Life.UNKNOWN
        for run in at_work
    ]
    if n_dead := lives.count(Life.DEAD):
        yield Obstacle(
            found=f"{counted(n_dead, 'job')} RUNNING on workers that are gone",
            cure="gan-htvs recover",
        )
    silences = [
        now - run.last_sign
        for run, life in zip(at_work, lives, strict=True)
        if life is Life.UNKNOWN and now - run.last_sign > SILENT
    ]
    if silences:
        yield Obstacle(
            found=f"{counted(len(silences), 'run')} silent for up to {span(max(silences))}",
            cure="gan-htvs recover",
        )


def _idle_categories(
    census: Census,
    status: CampaignStatus,
    at_work: Sequence[Run],
    now: datetime,
    *,
    is_embedded: bool,
) -> Iterator[Obstacle]:
    waiting: dict[str | None, list[JobCount]] = {}
    for job in status.jobs:
        if job.state == "READY":
            waiting.setdefault(job.category, []).append(job)
    seen = [*at_work, *(runs.latest(census) if waiting else ())]
    for category, jobs in waiting.items():
        since = min(job.since for job in jobs)
        signs = [run.last_sign for run in seen if run.takes(category, census.owners)]
        busy = any(run.takes(category, census.owners) for run in at_work)
        if busy or now - max([since, *signs]) < IDLE:
            continue
        last = f"the last one was seen {span(now - max(signs))} ago" if signs else "none ever came"
        of_category = f" of category {category}" if category else ""
        yield Obstacle(
            found=f"{counted(sum(job.n for job in jobs), 'job')}{of_category} READY for "
            f"{span(now - since)}, and no worker takes any: {last}",
            cure=LOCAL_CURE if is_embedded else f"qlaunch -c queue/{category or 'cpu'} rapidfire",
        )


def _workflows(census: Census) -> dict[str, Any]:
    """Ask for the workflows of a campaign."""
    owners = list(census.owners)
    return {
        "$or": [{"metadata.campaign": census.campaign.name}, {"metadata.unit": {"$in": owners}}]
    }
