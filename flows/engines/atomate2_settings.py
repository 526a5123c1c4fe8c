"""Settings of atomate2, which it reads from its own file during the import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign.engines import STEP_TAGS, check_level_of_theory
from gan_htvs.core.errors import UserError
from gan_htvs.core.text import one_line

if TYPE_CHECKING:
    from atomate2.settings import Atomate2Settings

FILE_VARIABLE = "ATOMATE2_CONFIG_FILE"
VARIABLE = "ATOMATE2_VASP_INCAR_UPDATES"
"""Environment variable that overrides the file."""


def load_settings() -> Atomate2Settings:
    """Read the settings of atomate2 from its file and the environment.

    Raises
    ------
    UserError
        If atomate2 cannot read them and therefore cannot be imported.
    """
    try:
        from atomate2.settings import Atomate2Settings  # noqa: PLC0415 - the import reads the settings

        return Atomate2Settings()
    except ImportError:
        raise
    except Exception as error:  # any error of its YAML library
        problem = one_line(error)
        path = os.environ.get(FILE_VARIABLE, "~/.atomate2.yaml")
        raise UserError(
            f"{path}: atomate2 cannot read its settings: {problem}; correct that file or the "
            "variables ATOMATE2_... of the environment."
        ) from error


def incar_updates(settings: Atomate2Settings | None = None) -> dict[str, Any]:
    """Return the INCAR tags that atomate2 writes last, into every calculation.

    Parameters
    ----------
    settings
        None: the settings that atomate2 uses in this process.

    Raises
    ------
    UserError
        If a tag would change the level of theory, the magnetic ordering, or the relaxation.
    """
    if settings is None:
        from atomate2 import SETTINGS  # noqa: PLC0415 - fails if they cannot be read

        settings = SETTINGS
    source = VARIABLE if VARIABLE in os.environ else settings.CONFIG_FILE
    try:
        updates = dict(check_level_of_theory(settings.VASP_INCAR_UPDATES))
    except ValueError as error:
        raise UserError(f"{source}: VASP_INCAR_UPDATES: {error}") from error
    if wrong := sorted(STEP_TAGS & {str(tag).strip().upper() for tag in updates}):
        raise UserError(
            f"{source}: VASP_INCAR_UPDATES: {', '.join(wrong)} would apply to relaxations and "
            "static calculations; remove it"
        )
    return updates
