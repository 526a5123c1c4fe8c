"""Campaigns as a database holds them, perhaps since another version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gan_htvs import __version__
from gan_htvs.campaign import Campaign
from gan_htvs.errors import UserError
from gan_htvs.settings import first_problem

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnreadableCampaignError(UserError):
    """The settings of a stored campaign are those of another version."""


def stored_campaign(document: Mapping[str, Any]) -> Campaign:
    """Read a campaign from its document; what was not a setting yet has its default.

    Raises
    ------
    UnreadableCampaignError
        If this version does not know its settings.
    """
    try:
        return Campaign.model_validate(document["settings"])
    except (KeyError, ValidationError, UserError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise UnreadableCampaignError(
            f"The settings of campaign {document.get('name')!r} are those of another version of "
            f"gan-htvs, and {__version__} cannot read them ({problem}); use the version that it "
            "was started with, or give another campaign."
        ) from error
