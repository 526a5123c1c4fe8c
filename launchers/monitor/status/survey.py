"""Read the status of the campaigns of a database."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign.stored_campaign import UnreadableCampaignError, read_stored_campaign
from gan_htvs.core.stages import REFERENCE_PHASE, Stage, Step
from gan_htvs.results.campaign_inputs import INPUT_FIELDS, read_inputs
from gan_htvs.results.funnel import CANDIDATE_FIELDS, measure_funnel
from gan_htvs.results.rounds import ROUND_FIELDS, read_rounds
from launchers.launchpad.jobs import as_utc, last_update, owned_by
from launchers.launchpad.registry import registrations
from launchers.launchpad.samples import longest_samples
from launchers.monitor.status import status_document as documents
from launchers.monitor.status.campaign_findings import campaign_findings, categories_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CENTURY = timedelta(days=36_500)
SHORTEST = timedelta(minutes=1)
"""Minimum age of a campaign for its rate."""

ALWAYS = "since start"
WHOLE = "first to last job"
"""Periods of running and of finished campaigns."""

STEPS = list(Step)
OUTPUT_FIELDS = [
    *("completed_at", "metadata.step", "metadata.candidate_id", "output.origin.proposer"),
    *("output.stream", "output.requested", "output.tried", "output.proposals.candidate_id"),
    "output.proposals.prescreen.rejected_at",
]


def survey(databases: Databases, name: str | None = None) -> documents.Status:
    """Read the status of one campaign, or of all campaigns.

    Raises
    ------
    UserError
        If the campaign does not exist or cannot be read, or the database has no campaign.
    """
    campaigns, unreadable = [], []
    for registration in registrations(databases, name):
        try:
            campaigns.append(_read_status(databases, registration))
        except UnreadableCampaignError as error:
            if name is not None:
                raise
            unreadable.append(str(error))
    return documents.Status(
        checked_on=datetime.now(UTC), campaigns=tuple(campaigns), unreadable=tuple(unreadable)
    )


def _read_status(databases: Databases, registration: Mapping[str, Any]) -> documents.CampaignStatus:
    campaign = read_stored_campaign(registration)
    submission = registration.get("submission") or {}
    owners = submission.get("owners") or [campaign.name]
    launchpad, now = databases.launchpad(), datetime.now(UTC)
    times, n_verdicts, n_not_proposed = _read_outputs(launchpad, campaign)
    groups = _group_jobs(launchpad, owners, now)
    query = {"campaign": campaign.name}
    fields = {*CANDIDATE_FIELDS, *campaign.funnel.fields, *INPUT_FIELDS}
    fields |= {"last_updated", "missing_property", *ROUND_FIELDS}
    candidates = list(launchpad.db.candidates.find(query, sorted(fields)))
    with databases.store("outputs", key="uuid") as outputs:
        inputs = read_inputs(outputs, campaign, candidates, owners)
        rounds = read_rounds(outputs, campaign, candidates)
    began_on = min((as_utc(group["began"]) for group in groups), default=None)
    n_built = sum(candidate["stage"] != Stage.GENERATED for candidate in candidates)
    updates = [as_utc(doc["last_updated"]) for doc in candidates if doc.get("last_updated")]
    running = launchpad.jobs(owners, states=["RUNNING"])
    status = documents.CampaignStatus(
        campaign=campaign,
        name=campaign.name,
        n_requested=campaign.n_structures,
        began_on=began_on,
        n_not_proposed=n_not_proposed + rounds.n_skipped,
        n_evaluated=len(times),
        built_on=max(updates, default=None),
        n_unbuilt=max(n_verdicts - n_built, 0),
        source_notes=inputs.source_notes,
        rounds=rounds,
        funnel=measure_funnel(
            candidates,
            campaign,
            n_training=inputs.n_training,
            n_reference_phases=inputs.n_reference_phases,
        ),
        jobs=tuple(
            documents.JobCount(**group["_id"], n=group[ALWAYS], since=as_utc(group["since"]))
            for group in groups
        ),
        workers=_working_hosts(running),
        throughput=_throughput(groups, times, began_on, now),
        failures=tuple(_failures(databases, campaign, owners, candidates)),
    )
    if status.is_finished and began_on is not None:
        throughput = (_overall_throughput(groups, times, began_on),)
        status = status.model_copy(update={"throughput": throughput})
    findings = campaign_findings(databases, owners, status, running, submission)
    return status.model_copy(update={"findings": tuple(findings)})


def _read_outputs(launchpad: CampaignLaunchPad, campaign: Campaign) -> tuple[list[str], int, int]:
    """Read the verdicts and samples of a campaign.

    Returns
    -------
    times
        Local times of the verdicts on candidates other than reference phases.
    n_verdicts
        Number of verdicts, including those on reference phases.
    n_not_proposed
        Number of structures that the proposers did not find.
    """
    evaluated_at: dict[str, str] = {}
    samples, reference_phases = [], set()
    steps = [Step.PROPOSE, Step.PRESCREEN, Step.SELECT, Step.GATE]
    query = {"metadata.campaign": campaign.name, "metadata.step": {"$in": steps}}
    for document in launchpad.db.outputs.find(query, OUTPUT_FIELDS):
        labels, output = document["metadata"], document.get("output") or {}
        ids = []
        match labels["step"]:
            case Step.PROPOSE:
                samples.append(output)
            case Step.GATE:
                ids = [labels["candidate_id"]]
                if output.get("origin", {}).get("proposer") == REFERENCE_PHASE:
                    reference_phases.update(ids)
            case Step.PRESCREEN | Step.SELECT:
                ids = [
                    proposal["candidate_id"]
                    for proposal in output.get("proposals", ())
                    if (proposal.get("prescreen") or {}).get("rejected_at")
                ]
        time = document.get("completed_at", "1970-01-01")
        evaluated_at |= {name: min(time, evaluated_at.get(name, time)) for name in ids}
    longest = longest_samples(samples).values()
    missing = (sample["requested"] - len(sample["proposals"]) for sample in longest)
    times = [time for name, time in evaluated_at.items() if name not in reference_phases]
    return times, len(evaluated_at), sum(max(n, 0) for n in missing)


def _group_jobs(
    launchpad: CampaignLaunchPad, owners: Sequence[str], now: datetime
) -> list[dict[str, Any]]:
    """Count all and recently updated jobs by step, state and category."""
    kind = {"step": "$spec.step", "state": "$state", "category": "$spec._category"}
    recent = {
        name: {"$sum": {"$cond": [{"$gte": ["$updated_on", (now - span).isoformat()]}, 1, 0]}}
        for name, span in (("last hour", HOUR), ("last day", DAY))
    }
    times = {
        "since": {"$min": "$updated_on"},
        "ended": {"$max": "$updated_on"},
        "began": {"$min": "$created_on"},
    }
    group = {"_id": kind, ALWAYS: {"$sum": 1}} | times | recent
    groups = launchpad.fireworks.aggregate([{"$match": owned_by(owners)}, {"$group": group}])

    def order(document: dict[str, Any]) -> tuple[int, str, str]:
        kind = document["_id"]
        return STEPS.index(kind["step"]), kind.get("category") or "", kind["state"]

    return sorted(groups, key=order)


def _throughput(
    groups: Sequence[dict[str, Any]], times: Sequence[str], began_on: datetime | None, now: datetime
) -> tuple[documents.Throughput, ...]:
    """Return the throughput of the last hour, of the last day and since the first job."""
    if began_on is None:  # results restored from an archive have no rate
        groups, times, began_on = (), (), now
    age = max(now - began_on, SHORTEST)
    # A completed Firework was last updated when its launch ended.
    completed = [group for group in groups if group["_id"]["state"] == "COMPLETED"]
    # jobflow writes local times without a zone
    ended = [datetime.fromisoformat(time).astimezone() for time in times]
    return tuple(
        documents.Throughput(
            period=period,
            hours=min(span, age) / HOUR,
            n_jobs=sum(group[period] for group in completed),
            n_verdicts=sum(time >= now - span for time in ended),
        )
        for period, span in (("last hour", HOUR), ("last day", DAY), (ALWAYS, CENTURY))
    )


def _overall_throughput(
    groups: Sequence[dict[str, Any]], times: Sequence[str], began_on: datetime
) -> documents.Throughput:
    """Return the throughput of a finished campaign, which does not depend on the current time."""
    completed = [group for group in groups if group["_id"]["state"] == "COMPLETED"]
    ended_on = max((as_utc(group["ended"]) for group in completed), default=began_on)
    return documents.Throughput(
        period=WHOLE,
        hours=max(ended_on - began_on, SHORTEST) / HOUR,
        n_jobs=sum(group[ALWAYS] for group in completed),
        n_verdicts=len(times),
    )


def _working_hosts(running: Sequence[QueuedJob]) -> tuple[documents.WorkingHost, ...]:
    """Group the running jobs by host, batch job and FWorker."""
    places: dict[tuple[str, str, str], list[QueuedJob]] = defaultdict(list)
    for job in running:
        if job.launch:
            worker = job.worker
            batch_job = ""
            if worker and worker.batch_job:
                batch_job = f"{worker.batch_system} {worker.batch_job}"
            places[job.launch["host"], batch_job, job.launch["fworker"]["name"]].append(job)
    hosts = []
    for (host, batch_job, name), jobs in sorted(places.items()):
        launches = [job.launch for job in jobs if job.launch]
        hosts.append(
            documents.WorkingHost(
                name=name,
                host=host,
                batch_job=batch_job or None,
                categories=categories_of(launches[0]["fworker"]),
                steps=Counter(Step(job.step) for job in jobs),
                since=min(as_utc(launch["time_start"]) for launch in launches),
                last_ping=max(map(last_update, launches)),
            )
        )
    return tuple(hosts)


def _failures(
    databases: Databases,
    campaign: Campaign,
    owners: Sequence[str],
    candidates: Sequence[Mapping[str, Any]],
) -> list[documents.FailureCount]:
    """Count the jobs that raised and the calculations without a result, by step and reason."""
    fizzled = databases.launchpad().jobs(owners, states=["FIZZLED"])
    failures = documents.count_failures(
        "job", ((job.step, job.error, f"fw_id {job.fw_id}, {job.folder}") for job in fizzled)
    )
    # The job that collects the reference phases raises if one of their calculations failed.
    may_lack_result = any(
        candidate["stage"] == Stage.FAILED or candidate.get("missing_property")
        for candidate in candidates
    )
    if fizzled or may_lack_result:
        from launchers.monitor.failed_calculations import failed_calculations

        failed = failed_calculations(databases, campaign)
        reasons = [(item.step, item.reason, item.folder) for item in failed if item.folder]
        failures += documents.count_failures("calculation", reasons)
    return failures
