"""Reading of campaigns from a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gan_htvs import __version__
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnreadableCampaignError(UserError):
    """The stored settings of a campaign are from another version."""


def read_stored_campaign(document: Mapping[str, Any]) -> Campaign:
    """Read a campaign from its document; missing settings get their defaults.

    Raises
    ------
    UnreadableCampaignError
        If the settings are from another version and cannot be read.
    """
    try:
        return Campaign.model_validate(document["settings"])
    except (KeyError, ValidationError, UserError) as error:
        raise UnreadableCampaignError(
            f"The settings of campaign {document.get('name')!r} are those of another version of "
            f"gan-htvs, and {__version__} cannot read them ({one_line(error)}); run it in a "
            "new database (another `name` in my_launchpad.yaml), or use the version that began it."
        ) from error
