"""Jobs that failed because a machine could not import what they run."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from launchers.losses import MAX_LOSSES, Cure, Loss, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launchers.launchpad import CampaignLaunchPad

NOT_IMPORTED = {
    "action.stored_data._exception._stacktrace": {
        "$regex": r"(^|\n)(ModuleNotFoundError|ImportError): [^\n]*\s*$"
    }
}
"""Finds the launches that ended so."""


def failed_imports(launchpad: CampaignLaunchPad, owners: Sequence[str] | None) -> list[Loss]:
    """Find jobs that failed because a machine could not import them."""
    fizzled = launchpad.jobs(owners, ["FIZZLED"])
    last = [max(job["launches"]) for job in fizzled if job["launches"]]
    launches = launchpad.launches.find({"launch_id": {"$in": last}} | NOT_IMPORTED)
    launch_of = {launch["fw_id"]: launch for launch in launches}
    found = [_unimportable(launchpad, job, launch_of.get(job["fw_id"])) for job in fizzled]
    return [loss for loss in found if loss is not None]


def _unimportable(
    launchpad: CampaignLaunchPad, job: dict[str, Any], launch: dict[str, Any] | None
) -> Loss | None:
    if launch is not None:
        error = launch["action"]["stored_data"]["_exception"]
    elif job["launches"] or "_exception_details" not in job["spec"]:
        return None
    else:  # the worker that was to run it could not read it
        error = job["spec"]["_exception_details"]
    line = error["_stacktrace"].strip().rpartition("\n")[2]
    where = f" on {launch['host']}" if launch else ""
    cure = Cure.LEAVE
    n_failed = launchpad.launches.count_documents(
        {"launch_id": {"$in": job["archived_launches"]}} | NOT_IMPORTED
    )
    if lacking := _lacking(launchpad, job, line):
        reason = f"{lacking} (here; install it on this machine and the nodes)"
    elif n_failed + 1 >= MAX_LOSSES:
        reason = f"{line} (only{where}; install it there, then `gan-htvs lpad rerun_fws`)"
    else:
        reason, cure = f"{line}{where}", Cure.QUEUE
    return Loss.of(Trouble.IMPORT, job, reason, launch, cure)


def _lacking(launchpad: CampaignLaunchPad, job: dict[str, Any], line: str) -> str | None:
    """Return what keeps a job from being imported here; None if nothing does."""
    module = re.search(r"No module named '([\w.]+)'", line)
    name = re.search(r"cannot import name '(\w+)' from '([\w.]+)'", line)
    try:
        if module:
            import_module(module[1])
        if name and not hasattr(import_module(name[2]), name[1]):
            return line
        launchpad.get_fw_by_id(job["fw_id"])
    except Exception as error:  # noqa: BLE001 - whatever importing somebody's module raises
        return f"{type(error).__name__}: {error}"
    return None
