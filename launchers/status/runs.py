"""Who works on a campaign, who has fallen silent, and with which versions of the packages."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_htvs.candidate import Step
from launchers.launchpad import moment
from launchers.status.document import WorkingHost
from launchers.workers import Worker, differences, worker_of_launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from launchers.status.census import Census

RECENT_LAUNCHES = 200
"""Among so many of the latest launches we look for workers that are idle now."""

VERSIONS = "fworker.env.worker.versions"
"""Where a launch holds the versions of a worker of ours."""

_FIELDS = [
    *("launch_id", "host", "fworker", "time_start"),
    *("state_history.created_on", "state_history.updated_on"),
]


@dataclass(frozen=True)
class Run:
    """A launch of a job, and the worker that made it.

    Attributes
    ----------
    fworker
        As FireWorks stores it.
    worker
        What a worker of ours says of itself; None for a stock one.
    host
        Where it ran.
    started
        When.
    last_sign
        When the worker last wrote to the launch: at its begin, at every ping, at its end.
    step
        Of the job, where that was asked for.
    """

    fworker: Mapping[str, Any]
    worker: Worker | None
    host: str
    started: datetime
    last_sign: datetime
    step: Step | None = None

    @classmethod
    def of(cls, launch: Mapping[str, Any], step: Step | None = None) -> Run:
        """Read a launch."""
        signs = [moment(sign) for each in launch["state_history"] for sign in each.values()]
        started = launch.get("time_start")
        return cls(
            launch["fworker"],
            worker_of_launch(launch),
            launch["host"],
            moment(started) if started else min(signs),
            max(signs),
            step,
        )

    @property
    def batch_job(self) -> str | None:
        """Batch system and id of the batch job that the worker is in."""
        worker = self.worker
        return f"{worker.batch_system} {worker.batch_job}" if worker and worker.batch_job else None

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the worker takes; none: all."""
        category = self.fworker.get("category") or ()
        return (category,) if isinstance(category, str) else tuple(category)

    def takes(self, category: str | None, owners: Sequence[str]) -> bool:
        """Whether the worker takes jobs of this category, of any of these owners."""
        asked = json.loads(self.fworker.get("query") or "{}").get("spec.campaign")
        if isinstance(asked, dict) and not {*asked.get("$in", owners)} & {*owners}:
            return False
        if self.categories == ("__none__",):
            return category is None
        return not self.categories or category in self.categories


def running(census: Census) -> list[Run]:
    """Find what runs now, as far as the database knows."""
    jobs = census.database.fireworks.find(
        census.of_owners | {"state": "RUNNING"}, {"launches": 1, "spec.step": 1}
    )
    steps = {job["launches"][-1]: Step(job["spec"]["step"]) for job in jobs if job["launches"]}
    launches = census.database.launches.find({"launch_id": {"$in": list(steps)}}, _FIELDS)
    return [Run.of(launch, steps[launch["launch_id"]]) for launch in launches]


def latest(census: Census) -> list[Run]:
    """Read the latest launches of the database, of whichever campaign."""
    launches = census.database.launches.find({}, _FIELDS)
    return [Run.of(each) for each in launches.sort("launch_id", -1).limit(RECENT_LAUNCHES)]


def at_work(runs: Sequence[Run]) -> tuple[WorkingHost, ...]:
    """Put the running jobs of one FWorker on one host, in one batch job, together."""
    places: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        place = run.host, run.batch_job or "", run.fworker["name"]
        places.setdefault(place, []).append(run)
    return tuple(
        WorkingHost(
            name=name,
            host=host,
            batch_job=batch_job or None,
            categories=those[0].categories,
            steps=dict(Counter(run.step for run in those if run.step)),
            since=min(run.started for run in those),
            last_ping=max(run.last_sign for run in those),
        )
        for (host, batch_job, name), those in sorted(places.items())
    )


def other_versions(census: Census, versions: Mapping[str, str], since: datetime) -> dict[str, int]:
    """Count the launches of a campaign with other versions than the submitter's.

    Parameters
    ----------
    census
        Of the campaign.
    versions
        Of the submitter, by package.
    since
        When it submitted; launches before are of an earlier submission.

    Returns
    -------
    Host and what differs there -> number of jobs.
    """
    launches = census.database.launches
    told = {VERSIONS: {"$exists": True}, "time_start": {"$gte": since.isoformat()}}
    group = {"_id": {"host": "$host", "versions": f"${VERSIONS}"}}
    found: Counter[str] = Counter()
    for kind in launches.aggregate([{"$match": told}, {"$group": group}]):
        host, theirs = kind["_id"]["host"], kind["_id"]["versions"]
        if not (differing := differences(versions, theirs)):
            continue
        # Launches do not tell whose they are; few of them differ.
        jobs = launches.distinct("fw_id", told | {"host": host, VERSIONS: theirs})
        n_ours = census.database.fireworks.count_documents(
            census.of_owners | {"fw_id": {"$in": jobs}}
        )
        found[f"{host}: {', '.join(differing)}"] += n_ours
    return {where: n for where, n in found.items() if n}
