"""Checks of VASP: the command of atomate2, its settings and the POTCARs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gan_htvs.core.potcars import FOLDER_VARIABLE, check_potcars, potcar_symbols
from launchers.monitor.findings import Finding, Severity, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.io.vasp.sets import VaspInputSet

    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.campaign.model import Campaign

ATOMATE2_COMMAND = "ATOMATE2_VASP_CMD"
SET_COMMAND = (
    f"load the modules of VASP and MPI, or export {ATOMATE2_COMMAND}='srun vasp_std' "
    "(VASP_CMD in ~/.atomate2.yaml)"
)
COMMON_COMMAND = "VASP_CMD"
"""Variable that many clusters set but atomate2 does not read."""

LAUNCHERS = frozenset(
    {
        *("srun", "mpirun", "mpiexec", "mpiexec.hydra", "mpiexec.slurm", "orterun", "prun"),
        *("ibrun", "aprun", "jsrun", "lrun", "flux", "mpprun", "poe"),
    }
)
"""Programs that start another one in parallel, on this machine or with its PATH."""

CONTAINER = re.compile(
    r"container|image|uenv|\.sif\b|\.sqsh\b|shifter|apptainer|singularity|podman|docker|sarus|ch-run"
)
"""Part of options and programs that start VASP in a container."""

BUILTINS = frozenset({"module", "ml", "source", ".", "export", "ulimit", "cd", "eval", "exec"})
"""Commands and functions of shells that are no programs."""


def command() -> Finding:
    """Check the VASP command in ~/.atomate2.yaml and the environment, as atomate2 reads it."""
    from flows.engines.atomate2_settings import load_settings

    settings = load_settings()
    return command_of(settings.VASP_CMD, settings.VASP_GAMMA_CMD, os.environ)


def command_of(vasp: str, gamma: str, environment: Mapping[str, str]) -> Finding:
    """Check a VASP command as far as this machine can, without running it.

    custodian starts the first word, without a shell. What a launcher such as srun then starts must
    be executable, too; behind any other program the last word may lie inside a container, and a
    missing one is only a warning.

    Parameters
    ----------
    vasp, gamma
        Commands that may start with a launcher, such as ``srun -n 4 vasp_std``.
    environment
        Environment variables.
    """
    finding = _check_command(vasp)
    if finding is not None and finding.severity is Severity.FAILURE:
        if COMMON_COMMAND in environment and ATOMATE2_COMMAND not in environment:
            note = f"; {COMMON_COMMAND} is set, but atomate2 does not read it"
            return replace(finding, what=finding.what + note)
        return finding
    if finding is not None:
        return finding
    if _check_command(gamma) is not None:
        return ok(f"{vasp!r}, also for cells with one k point because {gamma!r} is missing")
    return ok(f"{vasp!r}; {gamma!r} for cells with one k point")


def _check_command(line: str) -> Finding | None:
    """Return what is wrong with a command, or cannot be checked; None if nothing is."""
    expanded = os.path.expandvars(line)
    try:
        words = shlex.split(expanded)
    except ValueError as error:
        return failure(f"{line!r}: is not a valid command line: {error}", SET_COMMAND)
    if not words:
        return failure(f"{line!r}: is empty", SET_COMMAND)
    if (syntax := _shell_syntax(expanded, words)) is not None:
        return failure(f"{line!r}: no shell reads this command: {syntax[0]}", syntax[1])
    program, last = words[0], words[-1]
    missing = [word for word in (program, last) if shutil.which(word) is None]
    if program in missing or (missing and _starts_last_word(words)):
        return failure(f"{line!r}: {missing[0]} is not on PATH or not executable", SET_COMMAND)
    if not missing:
        return None
    return warning(
        f"{line!r}: {last!r} is no program on this machine; it may be one inside a container, or "
        f"an argument of {program}",
        "check that the command starts VASP where the jobs run",
    )


def _starts_last_word(words: Sequence[str]) -> bool:
    """Return whether a launcher of parallel programs itself starts the last word on this machine.

    Its options may name a container, and a word between them may be a program that starts VASP.
    """
    program, *middle, _ = words
    if Path(program).name not in LAUNCHERS:
        return False
    return not any(
        CONTAINER.search(word) or (not word.startswith("-") and shutil.which(word))
        for word in middle
    )


def _shell_syntax(line: str, words: Sequence[str]) -> tuple[str, str] | None:
    """Return which part of a command only a shell understands, and what to write instead."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="<>|&;")
    lexer.whitespace_split = True
    lexer.commenters = ""
    operators = [word for word in lexer if word and set(word) <= set("<>|&;")]
    redirections = [operator for operator in operators if set(operator) & set("<>")]
    pipes = [operator for operator in operators if operator in ("|", "|&")]
    first, last = words[0], words[-1]
    in_shell = "write bash -lc '...'"
    cases = (
        (
            first in BUILTINS,
            f"{first!r} is a command of the shell",
            f"put it into the job script (environment.sh of `gan-htvs queue init`), or {in_shell}",
        ),
        (
            bool(redirections or pipes),
            f"{''.join((redirections + pipes)[:1])!r} would be an argument",
            "leave the redirection out; the output is in vasp.out and std_err.txt of each job",
        ),
        (bool(operators), f"{''.join(operators[:1])!r} would be an argument", in_shell),
        (
            re.match(r"\w+=", first) is not None,
            f"{first!r} is no program",
            "export the variable, or write `env` before it",
        ),
        (
            first.startswith("~") or last.startswith("~"),
            "'~' is not replaced",
            "write the whole path, or $HOME",
        ),
        (
            any(mark in word for mark in ("$(", "`") for word in words),
            "the inner command is not run",
            "write the path of the program",
        ),
    )
    return next(((what, fix) for is_case, what, fix in cases if is_case), None)


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


def requirements(campaign: Campaign) -> list[Finding]:
    """Check the command and the POTCARs that a campaign needs; empty if it does not run VASP.

    Raises
    ------
    UserError
        If atomate2's settings change the level of theory.
    """
    if not campaign.engines.runs_vasp:
        return []
    settings()
    return [command(), potcars(campaign.chemical_system.elements, campaign.engines)]
