"""What atomate2's own settings file adds to the inputs of VASP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atomate2 import SETTINGS

from gan_htvs.engines import level_of_theory_stays
from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from atomate2.settings import Atomate2Settings

VARIABLE = "ATOMATE2_VASP_INCAR_UPDATES"
"""Environment variable that overrides the file."""


def incar_updates(settings: Atomate2Settings = SETTINGS) -> dict[str, Any]:
    """Return the INCAR tags that atomate2 writes last, into every calculation.

    Parameters
    ----------
    settings
        By default those that atomate2 uses in this process.

    Raises
    ------
    UserError
        If a tag would change the level of theory or the magnetic order.
    """
    source = VARIABLE if VARIABLE in os.environ else settings.CONFIG_FILE
    try:
        return dict(level_of_theory_stays(settings.VASP_INCAR_UPDATES))
    except ValueError as error:
        raise UserError(f"{source}: VASP_INCAR_UPDATES: {error}") from error
