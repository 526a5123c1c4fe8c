"""The campaigns of a database: their settings, one campaign to a name."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign.engines import PARALLEL_TAGS
from gan_htvs.campaign.stored_campaign import UnreadableCampaignError, read_stored_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.versions import versions
from gan_htvs.thermodynamics.ions import ion_set_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

EXTENDABLE = {
    ("compositions",),
    ("engines", "band_gap", "max_seconds"),
    ("engines", "band_gap", "mpi_command"),
    ("engines", "vasp", "frozen_seconds"),
    ("engines", "vasp", "max_errors"),
    ("engines", "vasp", "max_seconds"),
    ("engines", "vasp", "polling_seconds"),
    ("generator", "device"),
    ("generator", "precision"),
    ("max_atoms",),
    ("routing",),
    ("sampling", "proposers"),
    ("sampling", "structures_per_composition"),
    ("sampling", "max_tries_per_structure"),
    ("structures",),
    ("thresholds",),
    *(("engines", "vasp", "incar", tag) for tag in PARALLEL_TAGS),
    *(("engines", "vasp", "hybrid", "incar", tag) for tag in PARALLEL_TAGS),
}
"""Settings that may change between two runs of one campaign."""


WORKFLOWS_AT_ONCE = 20
"""Workflows of a campaign on the launchpad at one time, unless it was submitted with another
number: about a thousand structures, which keep any machine busy and no launchpad waiting."""


def register(
    campaign: Campaign,
    databases: Databases,
    *,
    extend: bool = True,
    workflows_at_once: int | None = None,
) -> None:
    """Store a campaign's settings, and refuse to mix two campaigns under one name.

    Parameters
    ----------
    campaign
        The settings.
    databases
        Where they are kept, with the versions of the packages here and now.
    extend
        Whether settings that may change may do so now.
    workflows_at_once
        Upper bound of the workflows on the launchpad; None: as before.

    Raises
    ------
    UserError
        If a campaign of this name exists with other settings than those that may change, it
        requires a table of ions that does not exist, or the database holds a campaign of another
        version.
    """
    from launchers.launchpad.units import CampaignUnits  # noqa: PLC0415 - seconds, which readers need not wait

    ion_set_of(campaign.pourbaix)
    existing = check_changes(campaign, databases, extend=extend)
    for other in _documents(databases).values():
        read_stored_campaign(other)  # jobs of another version would fail here
    submission = dict(existing.get("submission") or {})
    submission |= {"owners": CampaignUnits(campaign).owners, "versions": versions()}
    if workflows_at_once is not None:
        submission["workflows_at_once"] = workflows_at_once
    settings = campaign.model_dump(mode="json")
    document = {"name": campaign.name, "settings": settings, "submission": submission}
    if existing != existing | document:
        submission["submitted_on"] = now = datetime.now(UTC)
        with databases.store("campaigns", key="name") as campaigns:
            campaigns.update([document | {"last_updated": now}], key="name")


def check_changes(campaign: Campaign, databases: Databases, *, extend: bool) -> dict[str, Any]:
    """Check the settings against those that a campaign of this name was started with.

    Returns
    -------
    The stored document of the campaign; empty if there is none.

    Raises
    ------
    UserError
        If settings differ that may not change, or ``extend`` is not given.
    """
    existing = _documents(databases).get(campaign.name)
    if existing is None:
        return {}
    before = read_stored_campaign(existing).model_dump(mode="json")
    for path in _differences(before, campaign.model_dump(mode="json")):
        may_change = any(path[: len(allowed)] == allowed for allowed in EXTENDABLE)
        if may_change and extend:
            continue
        hint = "submit it with --extend" if may_change else "restore the setting"
        raise UserError(
            f"Campaign {campaign.name!r} was started with another {'.'.join(path)!r}: "
            f"give this one a new name, or {hint}."
        )
    return existing


def registrations(databases: Databases, name: str | None = None) -> list[dict[str, Any]]:
    """Read the documents of a campaign; of all if no name is given.

    Raises
    ------
    UserError
        If there is no such campaign, or none at all.
    """
    stored = _documents(databases)
    if not stored:
        raise UserError("this database holds no campaign; `gan-htvs run CAMPAIGN.YAML` starts one.")
    if name is not None and name not in stored:
        raise UserError(f"there is no campaign {name!r}; this database has: {', '.join(stored)}.")
    return list(stored.values()) if name is None else [stored[name]]


def submissions(databases: Databases) -> list[tuple[Campaign, dict[str, Any]]]:
    """Read all campaigns that this version can read, and how each was submitted."""
    found = []
    for document in _documents(databases).values():
        with suppress(UnreadableCampaignError):
            found.append((read_stored_campaign(document), document.get("submission") or {}))
    return found


def registered(databases: Databases, name: str | None) -> Campaign:
    """Read the settings of a campaign; of the only one if no name is given.

    Raises
    ------
    UserError
        If there is no such campaign, or several and no name, or it cannot be read.
    """
    found = registrations(databases, name)
    if len(found) > 1:
        names = ", ".join(each["name"] for each in found)
        raise UserError(f"name one campaign; this database has: {names}.")
    return read_stored_campaign(found[0])


def workflows_at_once_of(databases: Databases, name: str) -> int:
    """Return how many workflows of a campaign may be on the launchpad at one time."""
    submission = _documents(databases).get(name, {}).get("submission") or {}
    return int(submission.get("workflows_at_once", WORKFLOWS_AT_ONCE))


def _documents(databases: Databases) -> dict[str, dict[str, Any]]:
    """Read the documents of all campaigns, by name."""
    with databases.store("campaigns", key="name") as campaigns:
        return {each["name"]: each for each in campaigns.query(sort={"name": 1})}


def _differences(
    before: dict[str, Any], after: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Paths of the settings that differ."""
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, (*path, key))
        elif old != new:
            yield (*path, key)
