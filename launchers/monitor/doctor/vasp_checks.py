"""Checks of VASP: the command of atomate2, its settings and the POTCARs."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

from gan_htvs.core.potcars import FOLDER_VARIABLE, check_potcars, potcar_symbols
from launchers.monitor.findings import Finding, Severity, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.io.vasp.sets import VaspInputSet

    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.campaign.model import Campaign

ATOMATE2_COMMAND = "ATOMATE2_VASP_CMD"
COMMON_COMMAND = "VASP_CMD"
"""Variable that many clusters set but atomate2 does not read."""


def command() -> Finding:
    """Check the VASP command in ~/.atomate2.yaml and the environment, as atomate2 reads it."""
    from flows.engines.atomate2_settings import load_settings

    settings = load_settings()
    return command_of(settings.VASP_CMD, settings.VASP_GAMMA_CMD, os.environ)


def command_of(vasp: str, gamma: str, environment: Mapping[str, str]) -> Finding:
    """Check that the programs of a command exist, without running them.

    Parameters
    ----------
    vasp, gamma
        Commands that may start with a launcher, such as ``srun -n 4 vasp_std``.
    environment
        Environment variables.
    """
    if (problem := _problem(vasp)) is not None:
        what = f"{vasp!r}: {problem}"
        if COMMON_COMMAND in environment and ATOMATE2_COMMAND not in environment:
            what += f"; {COMMON_COMMAND} is set, but atomate2 does not read it"
        return failure(
            what,
            f"load the modules of VASP and MPI, or export {ATOMATE2_COMMAND}='srun vasp_std' "
            "(VASP_CMD in ~/.atomate2.yaml)",
        )
    if _problem(gamma) is not None:
        return ok(f"{vasp!r}, also for cells with one k point because {gamma!r} is missing")
    return ok(f"{vasp!r}; {gamma!r} for cells with one k point")


def _problem(line: str) -> str | None:
    """Return why a command cannot run; None if its first and last word are executable."""
    try:
        words = shlex.split(os.path.expandvars(line))
    except ValueError as error:
        return f"is not a valid command line: {error}"
    missing = [word for word in (*words[:1], *words[-1:]) if shutil.which(word) is None]
    if missing or not words:
        return f"{missing[0]} is not on PATH or not executable" if missing else "is empty"
    return None


def settings() -> Finding:
    """Report the tags that atomate2's settings add to every INCAR.

    Raises
    ------
    UserError
        If a tag is forbidden.
    """
    from flows.engines.atomate2_settings import incar_updates, load_settings

    site = load_settings()
    if not (updates := incar_updates(site)):
        return ok(f"no VASP_INCAR_UPDATES in {site.CONFIG_FILE}")
    tags = ", ".join(f"{tag} = {value}" for tag, value in updates.items())
    return ok(f"VASP_INCAR_UPDATES of {site.CONFIG_FILE}, in every calculation: {tags}")


def potcars(elements: Sequence[str], engines: EngineSettings) -> Finding:
    """Read every POTCAR of a campaign; energies and band gaps use the same.

    Parameters
    ----------
    elements
        Elements of the campaign; if empty, only the folder is checked.
    engines
        Engine settings of the campaign, with the functional of the POTCARs.

    Raises
    ------
    UserError
        If a powerup is invalid, or atomate2 cannot read its settings.
    """
    input_set = input_set_of(engines)
    functional = input_set.user_potcar_functional
    symbols = sorted(potcar_symbols(input_set, elements).values())
    problems, unknown = check_potcars(symbols, functional)
    if problems:
        return failure(
            "; ".join(problems),
            "`pmg config -p POTCARS_OF_VASP DIR` converts the folders of VASP to pymatgen's "
            f"layout, `pmg config --add {FOLDER_VARIABLE} DIR` names the result",
        )
    if unknown:
        return warning("; ".join(unknown), "compare them with the original files of VASP")
    if not elements:
        return ok(f"{FOLDER_VARIABLE} is set; name a campaign to check its elements")
    return ok(f"{', '.join(symbols)} of {functional}")


def input_set_of(engines: EngineSettings) -> VaspInputSet:
    """Return an input set with the same POTCARs as all jobs of a campaign."""
    from flows.engines.atomate2_settings import load_settings

    load_settings()
    from flows.engines.vasp import VaspEnergyMaker

    return VaspEnergyMaker.of(engines).static_maker.input_set_generator


def unavailable_reason(campaign: Campaign) -> str | None:
    """Return why VASP cannot run a campaign here, and the fix; None if it can or is not needed.

    Raises
    ------
    UserError
        If atomate2's settings change the level of theory.
    """
    if campaign.engines.runs_vasp:
        settings()
        elements = campaign.chemical_system.elements
        for finding in (command(), potcars(elements, campaign.engines)):
            if finding.severity is Severity.FAILURE:
                return finding.text
    return None
