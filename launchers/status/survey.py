"""Look at the campaigns of a database and tell how they stand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign import Campaign
from launchers.registry import registrations
from launchers.status import runs
from launchers.status.census import Census
from launchers.status.document import CampaignStatus, FailureCount, Status
from launchers.status.obstacles import obstacles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launchers.database import Databases


def survey(databases: Databases, name: str | None = None) -> Status:
    """Tell how a campaign stands, or all of the database if none is named.

    Raises
    ------
    UserError
        If there is no such campaign, or none at all.
    """
    return Status(
        checked_on=datetime.now(UTC),
        campaigns=tuple(
            _look_at(databases, registration) for registration in registrations(databases, name)
        ),
    )


def _look_at(databases: Databases, registration: Mapping[str, Any]) -> CampaignStatus:
    campaign = Campaign.model_validate(registration["settings"])
    submission = registration.get("submission") or {}
    owners = submission.get("owners") or _owners(campaign)
    census = Census(databases.launchpad().db, campaign, owners)
    now = datetime.now(UTC)

    began_on = census.first_queued()
    jobs = census.jobs()
    n_completed = sum(job.n for job in jobs if job.state == "COMPLETED")
    verdicts = census.verdicts()
    built = census.built()
    at_work = runs.running(census)
    status = CampaignStatus(
        campaign=campaign,
        began_on=began_on,
        n_given_up=census.given_up(),
        n_judged=verdicts.n_candidates,
        built_on=built.on,
        n_unbuilt=max(verdicts.n_candidates + len(verdicts.known_phases) - built.n_judged, 0),
        funnel=built.funnel,
        jobs=jobs,
        workers=runs.at_work(at_work),
        throughput=census.throughput(began_on, verdicts, n_completed, now),
        failures=(*census.fizzled(), *_failed_calculations(databases, census)),
    )
    found = obstacles(
        census,
        status,
        at_work,
        submission,
        now=now,
        is_embedded=databases.settings.embedded_storage is not None,
    )
    return status.model_copy(update={"obstacles": tuple(found)})


def _owners(campaign: Campaign) -> Sequence[str]:
    """Labels of the jobs of a campaign that was not submitted yet; takes seconds to import."""
    from flows.campaign import CampaignUnits

    return CampaignUnits(campaign).owners


def _failed_calculations(databases: Databases, census: Census) -> list[FailureCount]:
    """Group the calculations that left a reason instead of a result; those that raised are jobs."""
    if not census.has_failed_calculations():
        return []
    from launchers.failures import failed_calculations

    kinds: dict[tuple[str, str], list[str]] = {}
    for failed in failed_calculations(databases, census.campaign):
        if failed.folder:
            kinds.setdefault((failed.step, failed.reason), []).append(failed.folder)
    return [
        FailureCount(kind="calculation", step=step, reason=reason, n=len(those), example=those[0])
        for (step, reason), those in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    ]
