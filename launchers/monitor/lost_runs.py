"""Jobs lost with their workers, stale locks and failed imports, and their repair."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from pydoc import locate
from typing import TYPE_CHECKING

from gan_htvs.core.text import join_names
from launchers.monitor.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob

MAX_LOSSES = 3
"""Number of losses or failed imports after which a job is not queued again."""

NOT_IMPORTED = re.compile("ModuleNotFoundError|ImportError")
"""Start of the error message of a job that could not be imported."""


class Trouble(StrEnum):
    """Kinds of failure that were not caused by the job."""

    LOCK = "locked workflow"
    COMPLETION = "completion not recorded"
    RUN = "lost run"
    RESERVATION = "lost reservation"
    IMPORT = "cannot be imported"


class Repair(StrEnum):
    """Repair of a lost job."""

    QUEUE = "queued again"
    FINISH = "finished"
    FAIL = "marked as failed"
    NONE = "left as failed"


@dataclass(frozen=True)
class LostJob:
    """A lost job and its repair."""

    trouble: Trouble
    job: QueuedJob
    """The job; the first one of a locked workflow."""
    reason: str
    repair: Repair = Repair.QUEUE
    fix: str = ""
    """What the user has to do; empty if the repair is sufficient."""


def as_findings(jobs: Iterable[LostJob], *, are_repaired: bool) -> list[Finding]:
    """Return one finding for all jobs with the same trouble, repair and fix.

    If the jobs are not repaired yet, the fix is to recover them.
    """
    groups = defaultdict(list)
    for lost in jobs:
        groups[lost.trouble, lost.repair, lost.fix].append(lost)
    findings = []
    for (trouble, repair, fix), group in sorted(groups.items()):
        reasons = join_names([*dict.fromkeys(lost.reason for lost in group)])
        what = f"{trouble} ({len(group):,}): {reasons}"
        names = join_names([f"{lost.job.name} ({lost.job.fw_id})" for lost in group])
        is_open = not are_repaired and repair is not Repair.NONE
        to_do = "gan-htvs recover" if is_open else fix or None
        done = repair if are_repaired and repair in (Repair.QUEUE, Repair.FINISH) else None
        findings.append(Finding(Severity.WARNING, what, names, to_do, done))
    return findings


def repairs(jobs: Sequence[LostJob], *, dry_run: bool = False) -> str:
    """Return the number of repairs of each kind as a sentence."""
    counts = Counter(job.repair for job in jobs)
    verb = "would be " if dry_run else ""
    listed_counts = ", ".join(f"{n} {verb}{repair}" for repair, n in counts.most_common())
    return f"{listed_counts or 'Nothing to recover'}."


def failed_imports(launchpad: CampaignLaunchPad, owners: Sequence[str] | None) -> list[LostJob]:
    """Find jobs that failed because their code could not be imported."""
    return [
        _unimportable(launchpad, job)
        for job in launchpad.jobs(owners, states=["FIZZLED"])
        # A failed job without a launch could not be loaded.
        if (NOT_IMPORTED.match(job.error) if job.launch else job.load_error)
    ]


def _unimportable(launchpad: CampaignLaunchPad, job: QueuedJob) -> LostJob:
    if missing := _missing_import(launchpad, job):
        fix = "install it on this machine and the nodes"
        return LostJob(Trouble.IMPORT, job, f"{missing} (here too)", Repair.NONE, fix)
    reason = f"{job.error} on {job.launch['host']}" if job.launch else job.error
    if len(job.archived_launches) + 1 < MAX_LOSSES:
        return LostJob(Trouble.IMPORT, job, reason)
    fix = "install it there, then run `gan-htvs lpad rerun_fws`"
    return LostJob(Trouble.IMPORT, job, f"{reason}, not here", Repair.NONE, fix)


def _missing_import(launchpad: CampaignLaunchPad, job: QueuedJob) -> str | None:
    """Return why a job cannot be imported on this machine; None if it can."""
    missing = re.search(r"(?:cannot import name '(\w+)' from|named) '([\w.]+)'", job.error)
    try:
        if missing and locate(".".join(filter(None, missing.group(2, 1)))) is None:
            return job.error
        launchpad.get_fw_by_id(job.fw_id)
    except Exception as error:  # noqa: BLE001 - importing a user's module may raise anything
        return f"{type(error).__name__}: {error}"
    return None
