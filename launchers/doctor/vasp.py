"""VASP: the command that atomate2 runs, and the potentials that pymatgen finds."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gan_htvs.potcars import FOLDER_VARIABLE, examine_potcars, potcar_symbols
from launchers.doctor.check import Finding, State, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.io.vasp.sets import VaspInputSet

    from gan_htvs.campaign import Campaign
    from gan_htvs.engines import EngineSettings

ATOMATE2_COMMAND = "ATOMATE2_VASP_CMD"
COMMAND_HABIT = "VASP_CMD"
"""A variable that clusters like to set, and that atomate2 does not read."""

_INSTALL_POTCARS = (
    "`pmg config -p POTCARS_OF_VASP DIR` puts what VASP came with into pymatgen's layout, "
    f"`pmg config --add {FOLDER_VARIABLE} DIR` names it"
)


def command() -> Finding:
    """Look at the command as atomate2 reads it: ~/.atomate2.yaml and the environment."""
    from flows.engines.atomate2_settings import load_settings

    settings = load_settings()
    return command_of(settings.VASP_CMD, settings.VASP_GAMMA_CMD, os.environ)


def command_of(vasp: str, gamma: str, environment: Mapping[str, str]) -> Finding:
    """Find the programs of a command, and run none of them.

    Parameters
    ----------
    vasp, gamma
        Commands with launchers in front, such as ``srun -n 4 vasp_std``.
    environment
        Where ``VASP_CMD`` may be set in vain.
    """
    cure = (
        f"load the modules of VASP and MPI, or export {ATOMATE2_COMMAND}='srun vasp_std' "
        "(VASP_CMD in ~/.atomate2.yaml)"
    )
    try:
        problem = _obstacle(vasp)
    except ValueError as error:
        problem = f"is no command line: {error}"
    if problem is not None:
        found = f"{vasp!r}: {problem}"
        if COMMAND_HABIT in environment and ATOMATE2_COMMAND not in environment:
            found += f"; {COMMAND_HABIT} is set, which atomate2 does not read"
        return failure(found, cure)
    if _obstacle(gamma) is not None:
        return ok(f"{vasp!r}; no {gamma!r}, so cells with one k point run with the former")
    return ok(f"{vasp!r}; {gamma!r} for cells with one k point")


def settings() -> Finding:
    """Show what atomate2's settings add to every INCAR; a UserError names a tag that may not."""
    from flows.engines.atomate2_settings import incar_updates, load_settings

    site = load_settings()
    if not (updates := incar_updates(site)):
        return ok(f"no VASP_INCAR_UPDATES in {site.CONFIG_FILE}")
    tags = ", ".join(f"{tag} = {value}" for tag, value in updates.items())
    return ok(f"VASP_INCAR_UPDATES of {site.CONFIG_FILE}, in every calculation: {tags}")


def check_settings(campaign: Campaign) -> None:
    """Check that atomate2's settings leave the level of theory of a campaign for VASP.

    Raises
    ------
    UserError
        If they do not: the file, the tag and the fix.
    """
    if "vasp" in (campaign.engines.energy.name, campaign.engines.band_gap.name):
        settings()


def _obstacle(line: str) -> str | None:
    """Say why a command cannot be run: its first word launches, its last is VASP."""
    words = shlex.split(os.path.expandvars(line))
    if not words:
        return "is empty"
    for word in dict.fromkeys((words[0], words[-1])):
        if shutil.which(word) is None:
            there = Path(word).is_file() and "/" in word
            return f"{word} {'is not executable' if there else 'is not on PATH'}"
    return None


def potcars(elements: Sequence[str], input_sets: Sequence[VaspInputSet]) -> Finding:
    """Open every POTCAR that input sets ask for.

    Parameters
    ----------
    elements
        Of the campaign; none: only the folder is looked at.
    input_sets
        Those of the jobs, with the functional that the user chose.
    """
    symbols: dict[str, set[str]] = {}
    for input_set in input_sets:
        asked = symbols.setdefault(input_set.user_potcar_functional, set())
        asked.update(potcar_symbols(input_set, elements).values())
    reports = [examine_potcars(asked, functional) for functional, asked in symbols.items()]
    problems = list(dict.fromkeys(text for report in reports for text in report.problems))
    doubts = [text for report in reports for text in report.doubts]
    if problems:
        return failure("; ".join(problems), _INSTALL_POTCARS)
    if doubts:
        return warning("; ".join(doubts), "compare them with the ones that VASP came with")
    if not elements:
        return ok(f"{FOLDER_VARIABLE} is set; name a campaign to have its elements looked up")
    return ok("; ".join(f"{', '.join(sorted(asked))} of {f}" for f, asked in symbols.items()))


def input_sets(engines: EngineSettings) -> list[VaspInputSet]:
    """Make those of a campaign; energies and gaps have the same POTCARs.

    Raises
    ------
    UserError
        If a powerup is wrong, or atomate2 cannot read its settings.
    """
    from flows.engines.atomate2_settings import load_settings

    load_settings()
    from flows.engines.vasp import VaspEnergyMaker

    return [VaspEnergyMaker.of(engines).static_maker.input_set_generator]


def obstacle(campaign: Campaign) -> str | None:
    """Say what keeps VASP from running a campaign here, with the cure; None if nothing does."""
    engines = campaign.engines
    if "vasp" not in (engines.energy.name, engines.band_gap.name):
        return None
    elements = campaign.chemical_system.elements
    sets = input_sets(engines)
    for finding in (command(), potcars(elements, sets)):
        if finding.state is State.FAILURE:
            return f"{finding.found}; {finding.cure}"
    return None
