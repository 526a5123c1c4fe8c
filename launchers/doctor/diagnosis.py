"""All examinations, in the order in which they are told."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan_htvs.potentials import SHIPPED
from launchers.doctor import database, machine, phases, software, vasp
from launchers.doctor.check import Check, Examination, Need
from launchers.doctor.database import DatabaseSession
from launchers.doctor.needs import Needs, needs_of_campaign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENT_SECONDS = 90.0
"""For what bounds its own time, or is slow and yet works."""


def diagnose(
    campaign_file: Path | None,
    launchpad_file: Path,
    workdir: Path,
    *,
    watch: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Examine everything, whatever fails.

    Parameters
    ----------
    campaign_file
        What it needs and lacks is a failure, the rest is not looked at; None: all of the package
        is looked at, and what is lacking is a warning.
    launchpad_file
        The file that names the database.
    workdir
        Where job directories will go.
    watch
        Told the name of each check before it begins.

    Raises
    ------
    UserError
        If the campaign file is wrong.
    """
    needs = Needs() if campaign_file is None else _needs_of(campaign_file)
    checks = []
    with (
        redirect_stdout(sys.stderr),  # libraries talk, and --json owns stdout
        warnings.catch_warnings(action="ignore"),
        DatabaseSession(launchpad_file) as session,
    ):
        for examination in _examinations(needs, session, workdir):
            watch(examination.name)
            checks.append(examination.run())
    return checks


def _needs_of(campaign_file: Path) -> Needs:
    from gan_htvs.campaign_file import parse_campaign

    return needs_of_campaign(parse_campaign(campaign_file), campaign_file.resolve().parent)


def _examinations(needs: Needs, session: DatabaseSession, workdir: Path) -> Iterator[Examination]:
    yield Examination("Python", software.python)
    yield Examination("libraries", software.libraries)
    yield Examination("imports", software.imports, longest_seconds=PATIENT_SECONDS)
    yield from _of_machine(needs, workdir)
    for name, need in needs.potentials.items():
        yield from _of_potential(name, need, needs)
    yield Examination("GPAW", software.gpaw, needs.gpaw)
    yield from _of_vasp(needs)
    yield Examination("Materials Project", software.materials_project, needs.materials_project)
    if needs.campaign is not None:
        yield Examination("reference phases", partial(phases.reference_phases, needs.campaign))
    yield from _of_databases(needs, session)


def _of_potential(name: str, need: Need | None, needs: Needs) -> Iterator[Examination]:
    label = f"potential {name}"
    if name in SHIPPED:
        yield Examination(label, partial(software.potential, name), need)
    else:
        look = partial(software.force_field, name, needs.arguments.get(name, {}))
        yield Examination(label, look, need, longest_seconds=PATIENT_SECONDS)


def _of_machine(needs: Needs, workdir: Path) -> Iterator[Examination]:
    yield Examination(
        "threads",
        lambda: software.threads(
            len(os.sched_getaffinity(0)),
            os.environ.get("OMP_NUM_THREADS"),
            runs_vasp=needs.vasp is Need.REQUIRED,
        ),
    )
    yield Examination("GPU", machine.gpu)
    yield Examination("queue", machine.queue)
    yield Examination("disk of jobs", partial(machine.disk, workdir))
    yield Examination("disk of temporary files", lambda: machine.disk(Path(tempfile.gettempdir())))


def _of_vasp(needs: Needs) -> Iterator[Examination]:
    yield Examination("VASP", vasp.command, needs.vasp)
    yield Examination("atomate2 settings", vasp.settings, needs.custodian)
    yield Examination(
        "POTCARs",
        lambda: vasp.potcars(needs.elements, vasp.input_sets(needs.engines)),
        needs.vasp,
    )
    yield Examination("custodian", software.custodian, needs.custodian)
    yield Examination("enumlib", software.enumlib, needs.enumlib)


def _of_databases(needs: Needs, session: DatabaseSession) -> Iterator[Examination]:
    file = session.launchpad_file
    is_there = file.exists()
    yield Examination("launchpad file", session.file, Need.REQUIRED if is_there else needs.database)
    if is_there:
        yield Examination("database", session.server, longest_seconds=PATIENT_SECONDS)
        yield Examination("JobStore", session.job_store)
        yield Examination("indexes", session.indexes)
        yield Examination("clock", session.clock)
        yield Examination("disk of the database", session.disk)
    yield Examination("FireWorks settings", partial(database.fireworks_settings, file))
    yield Examination("jobflow settings", database.jobflow_settings)
