"""Run a whole campaign on this machine: units in their order, progress, interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import locked_folder
from launchers.console import output as console
from launchers.launchpad.builders import build_candidates, ensure_indexes
from launchers.launchpad.feeder import Feeder, submit
from launchers.launchpad.jobs import ACTIVE_STATES
from launchers.launchpad.locks import BUSY_LOCK_SECONDS, Locks
from launchers.launchpad.registry import register
from launchers.local.pool import WorkerPool
from launchers.monitor.failed_calculations import failed_calculations, queue_again, raised_jobs
from launchers.monitor.gaps import missing_gaps
from launchers.monitor.recovery import Recovery

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

POLL_SECONDS = 1.0
IDLE_POLLS = 2
"""A job's children become ready a moment after it ends, so idleness must last."""

Watcher: TypeAlias = Callable[[Counter[tuple[str, str]]], None]
"""Called at every poll with the number of jobs by step and state."""


def run_campaign(
    campaign: Campaign,
    databases: Databases,
    *,
    launchpad_file: Path,
    directory: Path,
    n_workers: int,
    watch: Watcher,
) -> None:
    """Go on with a campaign from wherever an earlier run stopped until nothing is left to do.

    Parameters
    ----------
    campaign
        What to run.
    databases
        Where everything is kept; must be reachable.
    launchpad_file
        The file that names them, for the workers.
    directory
        Job directories and worker logs; one run at a time uses it.
    n_workers
        Worker processes.
    watch
        Called at every poll.

    Raises
    ------
    UserError
        If another run uses the directory, workers keep dying, or references or training fail.
    """
    feeder = Feeder(campaign, databases)
    launchpad, owners = feeder.launchpad, feeder.units.owners
    recovery = Recovery.of(databases, owners)
    pool = WorkerPool(n_workers, launchpad_file, directory, owners)
    with locked_folder(directory):
        register(campaign, databases)
        launchpad.initialize()
        ensure_indexes(databases)
        _recover(campaign, databases, feeder, recovery)
        began = datetime.now()  # noqa: DTZ005 - as jobflow writes it
        _work(recovery, pool, feeder.feed, watch)
        if missing := feeder.backlog().missing:
            failed = launchpad.jobs(list(feeder.units.shared), states=["FIZZLED"])
            reason = "; ".join(f"{job.name}: {job.error}" for job in failed)
            raise UserError(
                f"{missing} parts of the campaign cannot start because what they need failed: "
                f"{reason or 'no job raised'}"
            )
        build_candidates(databases)
        gaps = missing_gaps(campaign, databases, before=began)
        _work(recovery, pool, lambda: submit(launchpad, gaps, campaign), watch)
        build_candidates(databases)


def _recover(campaign: Campaign, databases: Databases, feeder: Feeder, recovery: Recovery) -> None:
    """Queue again what was lost or failed, and name the machines that still run jobs."""
    launchpad = feeder.launchpad
    # Workers that are gone were stopped with the run before; no job is to blame for it.
    replace(recovery, limits_losses=False).recover()
    queue_again(launchpad, launchpad.jobs(list(feeder.units.shared), states=["FIZZLED"]))
    queue_again(launchpad, raised_jobs(launchpad, campaign))
    if "vasp" in (campaign.engines.energy.name, campaign.engines.band_gap.name):
        build_candidates(databases)
        failed = failed_calculations(databases, campaign)
        queue_again(launchpad, [each for each in failed if each.is_retryable])
    if elsewhere := recovery.remote_workers():
        console.note(
            f"Jobs of this campaign run on other machines ({', '.join(elsewhere)}); should "
            "those be dead, `gan-htvs recover --silent-for 0` queues their jobs again."
        )


def _work(recovery: Recovery, pool: WorkerPool, feed: Callable[[], int], watch: Watcher) -> None:
    """Queue what can start, and run it until nothing more can."""
    launchpad, owners = recovery.launchpad, recovery.owners or ()
    feed()
    if not launchpad.is_busy(owners):
        return
    locks = Locks(launchpad)
    with pool:
        idle_polls = 0
        # A release that was lost must not be the end of the campaign.
        while idle_polls < IDLE_POLLS or feed():
            time.sleep(POLL_SECONDS)
            pool.replace_dead(recovery)
            for lost_job in recovery.runs({"launches": []}):
                recovery.repair(lost_job)
            locks.finish_stale(BUSY_LOCK_SECONDS)
            states = launchpad.states(owners)
            busy = any(state in ACTIVE_STATES for _, state in states)
            idle_polls = 0 if busy else idle_polls + 1
            watch(states)
