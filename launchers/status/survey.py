"""Read the status of the campaigns of a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gan_htvs.candidate import Step
from gan_htvs.stored_campaign import UnreadableCampaignError, stored_campaign
from launchers.locks import Locks
from launchers.registry import registrations
from launchers.status import runs
from launchers.status.census import Census
from launchers.status.document import CampaignStatus, FailureCount, Status
from launchers.status.obstacles import obstacles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases


def survey(databases: Databases, name: str | None = None) -> Status:
    """Read the status of a campaign, or of all if none is named.

    Raises
    ------
    UserError
        If there is no such campaign, or it cannot be read, or there is none at all.
    """
    campaigns, unreadable = [], []
    for registration in registrations(databases, name):
        try:
            campaigns.append(_look_at(databases, registration))
        except UnreadableCampaignError:
            if name is not None:
                raise
            unreadable.append(registration["name"])
    return Status(
        checked_on=datetime.now(UTC), campaigns=tuple(campaigns), unreadable=tuple(unreadable)
    )


def _look_at(databases: Databases, registration: Mapping[str, Any]) -> CampaignStatus:
    campaign = stored_campaign(registration)
    submission = registration.get("submission") or {}
    owners = submission.get("owners") or _owners(campaign)
    census = Census(databases.launchpad().db, campaign, owners)
    now = datetime.now(UTC)

    proposed = census.proposed()
    judged = census.judged()
    n_judged = len(judged.difference(proposed.known_phases))
    jobs = census.jobs(proposed.known_phases, now)
    built = census.built()
    at_work = runs.running(census)
    failures = census.fizzled()
    # Known phases whose calculations failed let the job fail that collects them.
    if built.has_lacking or any(each.step == Step.REFERENCES for each in failures):
        failures += _failed_calculations(databases, campaign)
    status = CampaignStatus(
        campaign=campaign,
        began_on=jobs.began_on,
        n_given_up=proposed.n_given_up,
        n_judged=n_judged,
        built_on=built.on,
        n_unbuilt=max(len(judged) - built.n_judged, 0),
        funnel=built.funnel,
        jobs=jobs.counts,
        workers=runs.at_work(at_work),
        throughput=jobs.throughput(n_judged, now),
        failures=tuple(failures),
    )
    found = obstacles(
        census,
        Locks(databases.launchpad()),
        status,
        at_work,
        submission,
        now=now,
        is_embedded=databases.settings.embedded_storage is not None,
    )
    return status.model_copy(update={"obstacles": tuple(found)})


def _owners(campaign: Campaign) -> Sequence[str]:
    """Labels of the jobs of a campaign that was not submitted yet; takes seconds to import."""
    from launchers.units import CampaignUnits

    return CampaignUnits(campaign).owners


def _failed_calculations(databases: Databases, campaign: Campaign) -> list[FailureCount]:
    """Group the calculations that left a reason instead of a result; those that raised are jobs."""
    from launchers.failures import failed_calculations

    kinds: dict[tuple[str, str], list[str]] = {}
    for failed in failed_calculations(databases, campaign):
        if failed.folder:
            kinds.setdefault((failed.step, failed.reason), []).append(failed.folder)
    return [
        FailureCount(kind="calculation", step=step, reason=reason, n=len(those), example=those[0])
        for (step, reason), those in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    ]
