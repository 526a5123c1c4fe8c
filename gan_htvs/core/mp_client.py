"""Client of the Materials Project with the API key of the user."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymatgen.core import SETTINGS

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_VARIABLE = "MP_API_KEY"


def api_key() -> str | None:
    """Return the API key of the user, if one is set."""
    return os.environ.get(KEY_VARIABLE) or SETTINGS.get("PMG_MAPI_KEY")


@contextmanager
def open_client(setting: str) -> Iterator[Any]:
    """Open an ``MPRester`` and convert errors of its requests to UserError.

    Parameters
    ----------
    setting
        Setting of campaign.yaml that requires the client, for messages.

    Raises
    ------
    UserError
        If the key is not set, the client is not installed, or a request fails.
    """
    key = api_key()
    if not key:
        raise UserError(
            f"{setting} 'materials_project' needs your API key: set the environment variable "
            f"{KEY_VARIABLE} (materialsproject.org/api) or choose another source."
        )
    try:
        from mp_api.client import MPRester  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise UserError(
            f"{setting} 'materials_project' needs the Materials Project client: pip install "
            "'gan-htvs[mp]'."
        ) from error
    try:
        with MPRester(key, mute_progress_bars=True) as rester:
            yield rester
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{setting} 'materials_project': the request failed ({reason:.120}); check the key "
            "and the network."
        ) from error
