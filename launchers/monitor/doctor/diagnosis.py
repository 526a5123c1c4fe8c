"""All checks of `gan-htvs doctor`, in their order in the report."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition

from gan_htvs.campaign.compositions import describe_cells
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.calculators import SHIPPED
from gan_htvs.thermodynamics.coverage import incomplete_hull_warning
from gan_htvs.thermodynamics.ions import (
    ion_set_of,
    required_reference_solids,
    unavailable_reason,
)
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from gan_htvs.thermodynamics.references import uncovered_by
from launchers.monitor.doctor import database_checks as database
from launchers.monitor.doctor import machine_checks as machine
from launchers.monitor.doctor import software_checks as software
from launchers.monitor.doctor import vasp_checks as vasp
from launchers.monitor.doctor.database_checks import DatabaseSession
from launchers.monitor.findings import (
    LONG_TIMEOUT_SECONDS,
    Check,
    Finding,
    Severity,
    ok,
    run_checks,
    skipped,
    warning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.core.properties import UserProperty


def diagnose(campaign_file: Path | None, launchpad_file: Path, workdir: Path) -> list[Finding]:
    """Check the machine and the databases.

    Parameters
    ----------
    campaign_file
        A missing requirement of this campaign is a failure, and all other requirements are skipped;
        None: everything is checked, and a missing optional requirement is a warning.
    launchpad_file
        my_launchpad.yaml.
    workdir
        Folder of the job directories.

    Raises
    ------
    UserError
        If the campaign file is wrong.
    """
    campaign = None
    if campaign_file is not None:
        from gan_htvs.campaign.campaign_file import parse_campaign, with_file_paths

        campaign = with_file_paths(campaign_file, parse_campaign(campaign_file))
    database_severity = Severity.WARNING if campaign is None else Severity.FAILURE
    with DatabaseSession() as session:
        on_machine = machine_checks(campaign, workdir)
        on_database = _database_checks(launchpad_file, session, database_severity)
        return run_checks(chain(on_machine, on_database))


def machine_checks(campaign: Campaign | None, workdir: Path) -> Iterator[Check]:
    """Yield the checks of this machine for a campaign, or all checks if it is None.

    Parameters
    ----------
    campaign
        Campaign with a resolved path of its reference phases; None: all checks.
    workdir
        Folder of the job directories.
    """

    def needed(condition: bool) -> Severity | None:
        if campaign is None:
            return Severity.WARNING
        return Severity.FAILURE if condition else None

    engines = campaign.engines if campaign else EngineSettings()
    elements = campaign.chemical_system.elements if campaign else ()
    runs_vasp = engines.runs_vasp
    yield Check("Python", lambda: ok(f"{platform.python_version()} at {sys.executable}"))
    yield Check("libraries", software.libraries)
    yield Check("imports", software.imports, seconds=LONG_TIMEOUT_SECONDS)
    cores, setting = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    yield Check("threads", partial(software.threads, cores, setting, runs_vasp=runs_vasp))
    yield Check("GPU", machine.gpu)
    yield Check("queue", machine.batch_system)
    yield Check("disk of jobs", partial(machine.disk, workdir))
    yield Check("disk of temporary files", partial(machine.disk, Path(tempfile.gettempdir())))
    potentials = potentials_of(campaign) if campaign else {}
    for name in dict.fromkeys((*SHIPPED, *sorted(potentials))):
        load = partial(software.potential, name, potentials.get(name, {}))
        yield Check(f"potential {name}", load, needed(name in potentials), LONG_TIMEOUT_SECONDS)
    by_gpaw = engines.band_gap.name == "gpaw" and (campaign is None or campaign.computes_gaps)
    yield Check("GPAW", software.gpaw, needed(by_gpaw))
    yield Check("VASP", vasp.command, needed(runs_vasp))
    yield Check("atomate2 settings", vasp.settings, needed(runs_vasp))
    yield Check("POTCARs", partial(vasp.potcars, elements, engines), needed(runs_vasp))
    enumlib = needed(runs_vasp and engines.vasp.orderings == "enumlib")
    yield Check("enumlib", software.enumlib, enumlib if campaign else Severity.SKIPPED)
    fetched_from = None if campaign is None or _has_phases(campaign) else campaign.references.source
    uses_key = "materials_project" in (fetched_from, campaign and campaign.dataset.source)
    yield Check("Materials Project", software.materials_project, needed(uses_key))
    server = campaign.references.provider if campaign and fetched_from == "optimade" else None
    yield Check("OPTIMADE", partial(software.optimade, server), needed(server is not None))
    if campaign is not None:
        yield Check("reference phases", partial(reference_phases, campaign))
        if (conditions := campaign.aqueous_conditions) is not None:
            yield Check("aqueous ions", partial(aqueous_ions, campaign, conditions))
        for name, settings in campaign.properties.items():
            yield Check(f"property {name}", partial(user_property, settings))
        if cells := campaign.target_counts:
            yield Check(
                "cells searched", lambda: ok(describe_cells(campaign.chemical_system, cells))
            )


def reference_phases(campaign: Campaign) -> Finding:
    """Check that the reference phases of a campaign cover its chemical system.

    Raises
    ------
    UserError
        If an element has no phase, or the file cannot be used.
    """
    system = campaign.chemical_system
    if not _has_phases(campaign):
        path = campaign.references.path
        return skipped(f"{path} does not exist yet; `gan-htvs references` or `run` fetches it")
    phases = phases_of(campaign)
    if gap := incomplete_hull_warning(uncovered_by(phases, system.elements)):
        fix = "check that these systems have no compounds, or add reference phases"
        return warning(gap.removesuffix("."), fix)
    return ok(f"{len(phases)} of {system.chemsys}")


def user_property(settings: UserProperty) -> Finding:
    """Check that the function or Maker of a user's property can be imported.

    Raises
    ------
    UserError
        If it cannot.
    """
    settings.load()
    return ok(settings.path)


def aqueous_ions(campaign: Campaign, conditions: PourbaixSettings) -> Finding:
    """Check that candidates of a campaign can get a Pourbaix stability.

    Reference phases that cannot be read are the finding of another check.

    Raises
    ------
    UserError
        If the table of ions cannot be used.
    """
    system = campaign.chemical_system
    table = ion_set_of(conditions)
    required = required_reference_solids(system.elements, table)
    phases = []
    if _has_phases(campaign):
        with suppress(UserError):
            phases = [phase.formula for phase in phases_of(campaign)]
    if reason := unavailable_reason(system.elements, phases or required, table):
        return warning(
            f"candidates of {system.chemsys} get no Pourbaix stability and are only ranked by "
            f"energy above hull: {reason}",
            None,
        )
    oxides = {formula for formula in phases if "O" in Composition(formula)}
    if "O" not in system.elements and oxides and oxides <= set(required):
        return warning(
            f"{', '.join(sorted(oxides))} are the only reference phases with O, although oxides "
            f"compete with candidates of {system.chemsys} in the Pourbaix diagram",
            "add the oxides of its elements to the reference phases; without them the Pourbaix "
            "stability appears too high",
        )
    return ok(f"{table.version}, with the reference phases {', '.join(required)}")


def _has_phases(campaign: Campaign) -> bool:
    """Return whether the reference phases of a campaign are on this machine."""
    return campaign.references.path is None or campaign.references.path.exists()


def potentials_of(campaign: Campaign) -> dict[str, dict[str, Any]]:
    """Return the potentials of a campaign by name, with the arguments of their calculators."""
    engines = campaign.engines
    main = engines.vasp.pre_relaxation if engines.energy.name == "vasp" else engines.energy.name
    potentials = {main: engines.energy.arguments} if main else {}
    for relaxation in campaign.prescreen.potentials(engines) if campaign.prescreen else ():
        potentials[relaxation.name] = relaxation.arguments
    return potentials


def _database_checks(file: Path, session: DatabaseSession, missing: Severity) -> Iterator[Check]:
    """Yield the checks of a database; those that use it only if it can be opened.

    ``missing`` is the severity of a missing file.
    """
    severity = Severity.FAILURE if file.exists() else missing
    yield Check("database", partial(session.reach, file), severity, LONG_TIMEOUT_SECONDS)
    if (databases := session.databases) is not None:
        yield Check("JobStore", partial(database.job_store, databases))
        yield Check("indexes", partial(database.indexes, databases, file))
        yield Check("clock", partial(database.clock, databases))
        if (storage := databases.settings.embedded_storage) is not None:
            yield Check("disk of the database", partial(machine.disk, storage))
    yield Check("FireWorks settings", partial(database.fireworks_settings, file))
    yield Check("jobflow settings", database.jobflow_settings)
