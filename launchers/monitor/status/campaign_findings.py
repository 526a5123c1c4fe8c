"""Findings about a campaign: problems that prevent its progress, with their fix."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gan_htvs.core.stages import CALCULATIONS
from launchers.console.quantities import counted, span
from launchers.launchpad.jobs import HELD_STATES, as_utc, last_update, owned_by
from launchers.launchpad.workers import differences
from launchers.monitor.findings import warning
from launchers.monitor.lost_runs import as_findings
from launchers.monitor.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob
    from launchers.monitor.findings import Finding
    from launchers.monitor.status.status_document import CampaignStatus, JobCount

IDLE = timedelta(minutes=10)
"""A worker that wrote to the database within this time may be waiting for its next job."""

LOCK_SECONDS = 2.0
"""A lock held for longer, s, is reported; `gan-htvs recover` waits longer."""

RECENT_LAUNCHES = 200
"""Number of latest launches that are searched for idle workers."""

VERSIONS = "fworker.env.worker.versions"
"""Field of a launch with the package versions of its worker."""


def campaign_findings(
    databases: Databases,
    owners: Sequence[str],
    status: CampaignStatus,
    running: Sequence[QueuedJob],
    submission: Mapping[str, Any],
) -> Iterator[Finding]:
    """Find the problems that prevent the progress of a campaign.

    Parameters
    ----------
    databases
        Databases of the campaign.
    owners
        Owners of the jobs of the campaign.
    status
        Status without findings.
    running
        Running jobs of the campaign.
    submission
        Versions and time of its submission; may be empty.
    """
    launchpad = databases.launchpad()
    yield from _standstill(launchpad, owners, status)
    recovery = Recovery.of(databases, owners, lock_seconds=LOCK_SECONDS)
    yield from as_findings([*recovery.locked(), *recovery.runs()], are_repaired=False)
    yield from _idle_categories(databases, owners, status, running)
    yield from _other_versions(launchpad, owners, submission)


def categories_of(fworker: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the categories of a worker from its FireWorks document; empty: all."""
    category = fworker.get("category") or ()
    return (category,) if isinstance(category, str) else tuple(category)


def _standstill(
    launchpad: CampaignLaunchPad, owners: Sequence[str], status: CampaignStatus
) -> Iterator[Finding]:
    held = [state for state in HELD_STATES if status.count(state)]
    if held:
        yield warning(
            f"{counted(status.count(*held), 'job')} {' or '.join(held)} by hand",
            "; ".join(HELD_STATES[state] for state in held),
        )
    if not status.is_stuck:
        return
    # A candidate whose calculation raised gets a verdict; a reference phase does not.
    is_result = {"spec.campaign": status.name, "spec.step": {"$in": list(CALCULATIONS)}}
    n_fizzled = launchpad.fireworks.count_documents(
        owned_by(owners) | {"state": "FIZZLED", "$nor": [is_result]}
    )
    if n_fizzled:
        yield warning(
            f"all other jobs wait for {counted(n_fizzled, 'job')} that FIZZLED",
            f"correct the cause, then run gan-htvs retry {status.name}",
        )
    elif not held:
        n_archived = status.count("ARCHIVED")
        archived = f" ({counted(n_archived, 'job')} ARCHIVED)" if n_archived else ""
        yield warning(
            f"{counted(status.n_remaining, 'structure')} left, but no job is queued{archived}",
            "gan-htvs submit CAMPAIGN.YAML, or gan-htvs run CAMPAIGN.YAML",
        )


def _idle_categories(
    databases: Databases,
    owners: Sequence[str],
    status: CampaignStatus,
    running: Sequence[QueuedJob],
) -> Iterator[Finding]:
    """Find categories with waiting jobs that no worker runs."""
    waiting: dict[str | None, list[JobCount]] = defaultdict(list)
    for job in status.jobs:
        if job.state == "READY":
            waiting[job.category].append(job)
    if not waiting:
        return
    busy = [job.launch for job in running if job.launch]
    launches = databases.launchpad().launches.find({}, ["fworker", "state_history"])
    recent = list(launches.sort("launch_id", -1).limit(RECENT_LAUNCHES))
    now = datetime.now(UTC)
    for category, jobs in waiting.items():
        since = min(job.since for job in jobs)
        updates = [last_update(launch) for launch in recent if _takes(launch, category, owners)]
        is_taken = any(_takes(launch, category, owners) for launch in busy)
        if is_taken or now - max([since, *updates]) < IDLE:
            continue
        last = f"last seen {span(now - max(updates))} ago" if updates else "none seen yet"
        of_category = f" of category {category}" if category else ""
        fix = f"qlaunch -c queue/{category or 'cpu'} rapidfire"
        if databases.settings.embedded_storage is not None:
            fix = "gan-htvs run CAMPAIGN.YAML"
        n_jobs = counted(sum(job.n for job in jobs), "job")
        waited = f"{n_jobs}{of_category} READY for {span(now - since)}"
        yield warning(f"{waited}, and no worker runs them: {last}", fix)


def _takes(launch: Mapping[str, Any], category: str | None, owners: Sequence[str]) -> bool:
    """Return whether the worker of a launch runs jobs of this category and of these owners."""
    fworker = launch["fworker"]
    condition = json.loads(fworker.get("query") or "{}").get("spec.campaign")
    if isinstance(condition, dict) and not {*condition.get("$in", owners)} & {*owners}:
        return False
    categories = categories_of(fworker)
    if categories == ("__none__",):
        return category is None
    return not categories or category in categories


def _other_versions(
    launchpad: CampaignLaunchPad, owners: Sequence[str], submission: Mapping[str, Any]
) -> Iterator[Finding]:
    """Find launches with package versions that differ from those of the submission."""
    if not (versions := submission.get("versions")):
        return
    start = as_utc(submission["submitted_on"]).isoformat()
    since = {VERSIONS: {"$exists": True}, "time_start": {"$gte": start}}
    group = {"_id": {"host": "$host", "versions": f"${VERSIONS}"}}
    counts: Counter[str] = Counter()
    for document in launchpad.launches.aggregate([{"$match": since}, {"$group": group}]):
        host, installed = document["_id"]["host"], document["_id"]["versions"]
        if differing := differences(versions, installed):
            # Launches do not store their owner; few of them differ.
            of_host = since | {"host": host, VERSIONS: installed}
            jobs = launchpad.launches.distinct("fw_id", of_host)
            n = launchpad.fireworks.count_documents(owned_by(owners) | {"fw_id": {"$in": jobs}})
            counts[f"{host}: {', '.join(differing)}"] += n
    for where, n in (+counts).items():
        yield warning(
            f"{counted(n, 'job')} with other package versions than the submission, on {where}",
            "install the versions in constraints.txt on all machines",
        )
