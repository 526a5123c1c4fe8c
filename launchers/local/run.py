"""Run a complete campaign on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.routing import jobs_of
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import locked_folder
from gan_htvs.core.stages import Step
from gan_htvs.generator.curves import format_losses, latest_entry
from gan_htvs.potentials.calculators import SHIPPED, weights_file
from launchers.console import output as console
from launchers.launchpad.builders import build_candidates, ensure_indexes
from launchers.launchpad.feeder import Feeder, submit
from launchers.launchpad.jobs import ACTIVE_STATES
from launchers.launchpad.locks import BUSY_LOCK_SECONDS, Locks
from launchers.launchpad.registry import register
from launchers.local.pool import WorkerPool
from launchers.local.reference_progress import ReferenceProgress
from launchers.monitor.doctor.diagnosis import potentials_of
from launchers.monitor.failed_calculations import failed_calculations, queue_again, raised_jobs
from launchers.monitor.missing_properties import missing_properties
from launchers.monitor.recovery import Recovery

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

POLL_SECONDS = 1.0
IDLE_POLLS = 2
"""Number of idle polls that end a run; children become ready shortly after their parent ends."""


def run_campaign(
    campaign: Campaign,
    databases: Databases,
    launchpad_file: Path,
    directory: Path,
    n_workers: int,
    progress: console.WorkProgress,
) -> None:
    """Run a campaign until no job can run; continue where an earlier run stopped.

    Parameters
    ----------
    campaign
        Campaign to run.
    databases
        Open databases.
    launchpad_file
        my_launchpad.yaml, for the workers.
    directory
        Folder of job directories and worker logs; only one run at a time can use it.
    n_workers
        Number of worker processes.
    progress
        Shows the jobs by step, the relaxed reference phases, and the losses of a training.

    Raises
    ------
    UserError
        If another run uses the directory, the weights of a potential are missing, workers die
        repeatedly, or references or training fail.
    """
    for name in potentials_of(campaign).keys() & SHIPPED:
        weights_file(name)
    feeder = Feeder(campaign, databases)
    launchpad, owners = feeder.launchpad, feeder.units.owners
    recovery = Recovery.of(databases, owners)
    pool = WorkerPool(n_workers, launchpad_file, directory, owners)
    with locked_folder(directory, "--workdir"):
        register(campaign, databases)
        launchpad.initialize()
        ensure_indexes(databases)
        _recover(campaign, databases, feeder, recovery)
        began = datetime.now()  # noqa: DTZ005 - as jobflow writes it
        generator = campaign.generator
        shared = feeder.units.shared
        stored = databases.stored(shared)
        references = ReferenceProgress(
            job for key, flow in shared.items() if key not in stored for job in jobs_of(flow)
        )

        def show(states: Counter[tuple[str, str]]) -> None:
            progress.show_jobs(states)
            if (counts := references.counts()) is not None:
                progress("reference phases", *counts)
            for job in launchpad.jobs(owners, states=["RUNNING"], steps=[Step.TRAIN]):
                entry = latest_entry(Path(job.launch["launch_dir"])) if job.launch else None
                if entry is not None:
                    step, is_first = int(entry["step"]), job.owner in shared
                    max_steps = generator.max_steps if is_first else generator.round_steps
                    progress("training steps", step, max_steps, format_losses(entry))

        _work(recovery, pool, feeder.feed, show)
        failed = launchpad.jobs(list(shared), states=["FIZZLED"])
        failed += launchpad.jobs([campaign.name], states=["FIZZLED"], steps=[Step.TRAIN])
        if failed and (missing := feeder.backlog().missing):
            reason = "; ".join(f"{job.name}: {job.error}" for job in failed)
            raise UserError(
                f"{missing} workflows of the campaign cannot start because shared jobs failed: "
                f"{reason}; correct the cause and run again."
            )
        build_candidates(databases)
        # A stage may need a property only after the build, such as behind a stage of novelty.
        for _ in campaign.stages:
            units = missing_properties(campaign, databases, before=began)
            _work(recovery, pool, partial(submit, launchpad, units, campaign), show)
            if not units:
                break
            build_candidates(databases)


def _recover(campaign: Campaign, databases: Databases, feeder: Feeder, recovery: Recovery) -> None:
    """Queue lost and failed jobs again, and report workers on other machines."""
    launchpad = feeder.launchpad
    # Workers of an earlier run were stopped with it; their losses were not caused by a job.
    replace(recovery, limits_losses=False).recover()
    queue_again(launchpad, launchpad.jobs(list(feeder.units.shared), states=["FIZZLED"]))
    queue_again(launchpad, raised_jobs(launchpad, campaign))
    if campaign.engines.runs_vasp:
        build_candidates(databases)
        failed = failed_calculations(databases, campaign)
        queue_again(launchpad, [item for item in failed if item.is_retryable])
    if workers := recovery.remote_workers():
        console.note(
            f"Jobs of this campaign are running on other machines ({', '.join(workers)}); if these "
            "have died, run `gan-htvs recover --silent-for 0` to queue their jobs again."
        )


def _work(
    recovery: Recovery,
    pool: WorkerPool,
    feed: Callable[[], int],
    watch: Callable[[Counter[tuple[str, str]]], None],
) -> None:
    """Queue units and run them until no more can start."""
    launchpad, owners = recovery.launchpad, recovery.owners or ()
    feed()
    if not launchpad.is_busy(owners):
        return
    locks = Locks(launchpad)
    with pool:
        idle_polls = 0
        # Feeding again covers releases that were lost with a worker.
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
