"""Campaigns in a database and their settings; names are unique."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign.engines import PARALLEL_TAGS
from gan_htvs.campaign.stored_campaign import UnreadableCampaignError, read_stored_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.funnel_stages import PUBLISHED_STAGES
from gan_htvs.core.stages import Stage
from gan_htvs.core.versions import versions
from gan_htvs.thermodynamics.ions import ion_set_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

EXTENDABLE = (
    *("compositions", "max_atoms", "routing", "structures", "stages", "properties"),
    *("generator.device", "generator.precision"),
    *("sampling.proposers", "sampling.structures_per_composition"),
    "sampling.max_tries_per_structure",
    *("engines.band_gap.max_scf_iterations", "engines.band_gap.max_hybrid_evaluations"),
    *("engines.band_gap.max_seconds", "engines.band_gap.mpi_command"),
    "engines.band_gap.accept_incomplete",
    *("engines.vasp.frozen_seconds", "engines.vasp.polling_seconds"),
    *("engines.vasp.max_errors", "engines.vasp.max_seconds"),
    *(f"engines.vasp.incar.{tag}" for tag in PARALLEL_TAGS),
    *(f"engines.vasp.hybrid.incar.{tag}" for tag in PARALLEL_TAGS),
)
"""Settings that may change between two runs of a campaign."""

FIXED_BY_ROUNDS = (
    *("compositions", "max_atoms", "sampling.proposers", "sampling.structures_per_composition"),
    "sampling.max_tries_per_structure",
)
"""Those that may not with several rounds of sampling, as later rounds learn from all structures."""

WORKFLOWS_AT_ONCE = 20
"""Default maximum number of unfinished workflows of a campaign on the launchpad.

They hold about a thousand structures, enough to keep a machine busy without slowing the launchpad.
"""


def register(
    campaign: Campaign,
    databases: Databases,
    *,
    extend: bool = True,
    workflows_at_once: int | None = None,
) -> None:
    """Store the settings of a campaign with the versions of the installed packages.

    Parameters
    ----------
    campaign
        Campaign to register.
    databases
        Databases of the campaign.
    extend
        Whether the settings in ``EXTENDABLE`` may differ from those already stored.
    workflows_at_once
        Maximum number of unfinished workflows on the launchpad; None: unchanged.

    Raises
    ------
    UserError
        If a campaign of this name exists with different settings that must not change, a required
        table of ions does not exist, or the database has a campaign of another version.
    """
    from launchers.launchpad.units import CampaignUnits  # noqa: PLC0415 - slow import that readers do not need

    if campaign.aqueous_conditions is not None:
        ion_set_of(campaign.aqueous_conditions)
    existing = check_changes(campaign, databases, extend=extend)
    for other in _documents(databases).values():
        read_stored_campaign(other)  # jobs of another version would fail
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
    """Check the settings against those stored for a campaign of this name.

    Returns
    -------
    The stored document of the campaign; empty if it is new.

    Raises
    ------
    UserError
        If a setting differs that must not change, or that may change only with ``extend``.
    """
    existing = _documents(databases).get(campaign.name)
    if existing is None:
        return {}
    before = read_stored_campaign(existing).model_dump(mode="json")
    for setting in _differences(before, campaign.model_dump(mode="json")):
        may_change = f"{setting}.".startswith(tuple(f"{allowed}." for allowed in EXTENDABLE))
        if campaign.generator.rounds > 1 and setting in FIXED_BY_ROUNDS:
            may_change = False
        if may_change and extend:
            continue
        fix = "submit it with --extend" if may_change else "restore the setting"
        raise UserError(
            f"Campaign {campaign.name!r} was started with a different {setting!r}: "
            f"rename this campaign, or {fix}."
        )
    return existing


def registrations(databases: Databases, name: str | None = None) -> list[dict[str, Any]]:
    """Return the stored document of one campaign, or of all campaigns.

    Raises
    ------
    UserError
        If the campaign does not exist, or the database has no campaign.
    """
    stored = _documents(databases)
    if not stored:
        raise UserError(
            "this database holds no campaign; run `gan-htvs run CAMPAIGN.YAML` to start one."
        )
    if name is not None and name not in stored:
        raise UserError(f"no campaign {name!r}; this database has: {', '.join(stored)}.")
    return list(stored.values()) if name is None else [stored[name]]


def submissions(databases: Databases) -> list[tuple[Campaign, dict[str, Any]]]:
    """Return all campaigns that this version can read, with their submissions."""
    campaigns = []
    for document in _documents(databases).values():
        with suppress(UnreadableCampaignError):
            campaigns.append((read_stored_campaign(document), document.get("submission") or {}))
    return campaigns


def registered(databases: Databases, name: str | None) -> Campaign:
    """Return a campaign; without a name, the only campaign of the database.

    Raises
    ------
    UserError
        If the campaign does not exist or cannot be read, or no name is given and there are several.
    """
    documents = registrations(databases, name)
    if len(documents) > 1:
        names = ", ".join(document["name"] for document in documents)
        raise UserError(f"name one campaign; this database has: {names}.")
    return read_stored_campaign(documents[0])


def reference_warnings(databases: Databases, names: Iterable[str]) -> list[str]:
    """Return the warnings of these campaigns that their reference phases may be incomplete."""
    chosen = set(names)
    campaigns = (campaign for campaign, _ in submissions(databases) if campaign.name in chosen)
    warnings = (campaign.references.completeness_warning for campaign in campaigns)
    return list(dict.fromkeys(filter(None, warnings)))


def stage_names(databases: Databases) -> list[str]:
    """Return the names of candidates before any stage, of the default stages, and of all others."""
    with databases.store("campaigns", key="name") as campaigns:
        documents = list(campaigns.query({}, ["settings.stages"], sort={"name": 1}))
    stages = [stage["name"] for doc in documents for stage in doc["settings"].get("stages") or ()]
    default = [stage.name for stage in PUBLISHED_STAGES]
    return list(dict.fromkeys([*map(str, Stage), *default, *stages]))


def owners_of(databases: Databases, name: str) -> list[str]:
    """Return the owners of the jobs of a campaign, including shared ones."""
    submission = _documents(databases).get(name, {}).get("submission") or {}
    return list(submission.get("owners") or [name])


def workflows_at_once_of(databases: Databases, name: str) -> int:
    """Return the maximum number of unfinished workflows of a campaign on the launchpad."""
    submission = _documents(databases).get(name, {}).get("submission") or {}
    return int(submission.get("workflows_at_once", WORKFLOWS_AT_ONCE))


def _documents(databases: Databases) -> dict[str, dict[str, Any]]:
    """Return the documents of all campaigns by name."""
    with databases.store("campaigns", key="name") as campaigns:
        return {document["name"]: document for document in campaigns.query(sort={"name": 1})}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield the settings that differ, such as ``generator.device``."""
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from (f"{key}.{setting}" for setting in _differences(old, new))
        elif old != new:
            yield key
