"""Find jobs that were lost with a worker, a batch job or a machine, and queue them again."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
from fireworks.core.firework import FWAction
from fireworks.fw_config import RESERVATION_EXPIRATION_SECS, RUN_EXPIRATION_SECS

from gan_htvs.core.stages import Step
from launchers.launchpad.batch_system import BatchQueue, user_name
from launchers.launchpad.jobs import as_utc, last_update
from launchers.launchpad.locks import BUSY_LOCK_SECONDS, LOCK_SECONDS, Locks
from launchers.launchpad.workers import MARK, Liveness, worker_of_launch
from launchers.monitor.lost_runs import MAX_LOSSES, LostJob, Repair, Trouble, failed_imports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob

CHECKOUT_SECONDS = 30.0
"""A job reserved for longer without a launch is lost; a checkout takes milliseconds."""

SUBMISSION_SECONDS = 600.0
"""A reservation without a batch job for longer is lost; a submission takes seconds."""

CLAIM_SECONDS = 600.0
"""A claim on a repair expires after this time; queueing a job again takes a second."""

RESUMED = (Step.TRAIN, Step.PRESCREEN, Step.REFERENCES)
"""Steps that resume where they were stopped; they are queued again after any number of losses."""

LOSSES = "spec._losses"
"""Field of a Firework with the number of losses that its job may have caused."""


@dataclass
class Recovery:
    """Find lost jobs and queue them again.

    A job is not lost while its worker is alive, or may be alive and sends pings. Several processes
    may recover the same jobs at the same time.

    Parameters
    ----------
    launchpad
        Launchpad of the jobs.
    owners
        Owners of the jobs; None for all.
    is_single_machine
        Whether no other machine can reach the launchpad.
    silent_for
        Seconds without a ping after which a run is lost, if the state of its worker is unknown.
    limits_losses
        Whether a job fails after ``MAX_LOSSES`` losses, since it may be their cause.
    lock_seconds
        Seconds after which the lock of a workflow is stale; None: depends on whether workers are
        running.
    queue
        Returns the current state of the batch system of this machine.
    """

    launchpad: CampaignLaunchPad
    owners: Sequence[str] | None = None
    is_single_machine: bool = False
    silent_for: float = RUN_EXPIRATION_SECS
    limits_losses: bool = True
    lock_seconds: float | None = None
    queue: Callable[[], BatchQueue] = BatchQueue

    @classmethod
    def of(cls, databases: Databases, owners: Sequence[str] | None, **settings: Any) -> Self:
        """Return a recovery of the jobs of some owners, None for all, in these databases."""
        embedded = databases.settings.embedded_storage is not None
        return cls(databases.launchpad(), owners, is_single_machine=embedded, **settings)

    def recover(self, *, dry_run: bool = False) -> list[LostJob]:
        """Find and repair all lost jobs; with ``dry_run``, only return them."""
        locked = self.locked(finish=not dry_run)
        lost_jobs = [*self.runs(), *failed_imports(self.launchpad, self.owners)]
        return [*locked, *(lost_job for lost_job in lost_jobs if dry_run or self.repair(lost_job))]

    def repair(self, lost_job: LostJob) -> bool:
        """Repair one job; return False if another process did, or if its state has changed."""
        if lost_job.repair is Repair.NONE:
            return True
        fw_id, launch_id = lost_job.job.fw_id, lost_job.job.launch_id
        # A dead worker may have left the workflow locked.
        self.locked({"nodes": fw_id}, finish=True)
        if lost_job.trouble is Trouble.RUN and not self._claim(launch_id):
            return False
        jobs = self.launchpad.jobs(query={"fw_id": fw_id, "state": lost_job.job.state})
        if [job.launch_id for job in jobs] != [launch_id]:
            return False
        match lost_job.trouble:
            case Trouble.COMPLETION:
                self.launchpad.refresh(fw_id)
            case Trouble.RUN:
                self._end_run(lost_job, jobs[0])
            case Trouble.RESERVATION if jobs[0].launch and jobs[0].launch["state"] == "RESERVED":
                self.launchpad.cancel_reservation(launch_id)
            case _:
                self.launchpad.rerun_fw(fw_id)
        return True

    def runs(self, query: Mapping[str, Any] | None = None) -> list[LostJob]:
        """Find lost runs, lost reservations and completions that were not recorded.

        Parameters
        ----------
        query
            Further conditions on the Fireworks.
        """
        jobs = self.launchpad.jobs(self.owners, states=["RUNNING", "RESERVED"], query=query)
        queue = self.queue()  # read after the launchpad: a batch job that has ended never starts
        lost_jobs = [self._lost_job(job, queue) for job in jobs]
        return [lost_job for lost_job in lost_jobs if lost_job is not None]

    def remote_workers(self) -> list[str]:
        """Return the names of workers that run jobs and whose state is unknown here."""
        return self._workers(self.owners, Liveness.UNKNOWN)

    def locked(
        self, query: Mapping[str, Any] | None = None, *, finish: bool = False
    ) -> list[LostJob]:
        """Find workflows with a stale lock; with ``finish``, complete their updates.

        Parameters
        ----------
        query
            Conditions on the workflows; None: all of the owners.
        finish
            Whether to complete the updates and release the locks.
        """
        if query is None and self.owners is not None:
            owners = {"$in": list(self.owners)}
            query = {"$or": [{"metadata.campaign": owners}, {"metadata.unit": owners}]}
        locks = Locks(self.launchpad)
        if not locks.scan(query or {}):
            return []
        seconds = self.lock_seconds
        if seconds is None:
            is_busy = self._workers(None, Liveness.ALIVE, Liveness.UNKNOWN)
            seconds = BUSY_LOCK_SECONDS if is_busy else LOCK_SECONDS
        stale = locks.wait_for_stale(seconds, query or {})
        for workflow in stale if finish else ():
            locks.finish(workflow)
        reason = f"locked for more than {seconds:.0f} s"
        first_jobs = {"fw_id": {"$in": [min(workflow["nodes"]) for workflow in stale]}}
        jobs = self.launchpad.jobs(query=first_jobs)
        return [LostJob(Trouble.LOCK, job, reason, Repair.FINISH) for job in jobs]

    def _workers(self, owners: Sequence[str] | None, *states: Liveness) -> list[str]:
        queue = self.queue()
        jobs = self.launchpad.jobs(owners, states=["RUNNING"])
        return sorted(
            {_name(job) for job in jobs if job.launch and self._liveness(job, queue) in states}
        )

    def _lost_job(self, job: QueuedJob, queue: BatchQueue) -> LostJob | None:
        launch, reason = job.launch, None
        if launch is None:
            if job.state == "RESERVED" and _age(job.updated_on) > CHECKOUT_SECONDS:
                reason = "its worker died during the checkout"
        elif launch["state"] == "RUNNING":
            liveness, silent = self._liveness(job, queue), _age(last_update(launch))
            if liveness is Liveness.DEAD:
                return self._lost_run(job, "is gone")
            if liveness is Liveness.UNKNOWN and silent > self.silent_for:
                return self._lost_run(job, f"sent no ping for {_duration(silent)}")
        elif launch["state"] == "RESERVED":
            reason = _reservation_problem(launch, queue)
        elif launch["state"] == "READY":  # a cancellation that was not completed
            reason = "its reservation was canceled"
        elif (
            self._liveness(job, queue) is Liveness.DEAD
            or _age(launch["state_history"][-1]["created_on"]) > BUSY_LOCK_SECONDS
        ):
            return LostJob(Trouble.COMPLETION, job, f"{_name(job)} died", Repair.FINISH)
        return LostJob(Trouble.RESERVATION, job, reason) if reason else None

    def _liveness(self, job: QueuedJob, queue: BatchQueue) -> Liveness:
        if job.worker is None:
            return Liveness.UNKNOWN
        return job.worker.liveness(queue, is_single_machine=self.is_single_machine)

    def _lost_run(self, job: QueuedJob, reason: str) -> LostJob:
        n_lost, reason = job.losses + 1, f"{_name(job)} {reason}"
        if n_lost < MAX_LOSSES or not self.limits_losses or job.step in RESUMED:
            return LostJob(Trouble.RUN, job, reason)
        reason = f"lost {n_lost} times and not queued again; the last time {reason}"
        fix = "correct the cause, then run `gan-htvs retry`"
        return LostJob(Trouble.RUN, job, reason, Repair.FAIL, fix)

    def _claim(self, launch_id: int | None) -> bool:
        """Claim a run; return False if another process is repairing it."""
        now = datetime.now(UTC)
        stale = now - timedelta(seconds=CLAIM_SECONDS)
        unclaimed = {"$or": [{"lost_on": {"$exists": False}}, {"lost_on": {"$lt": stale}}]}
        claimed = self.launchpad.launches.update_one(
            {"launch_id": launch_id, "state": "RUNNING", **unclaimed},
            {"$set": {"lost_on": now}},
        )
        return bool(claimed.modified_count)

    def _end_run(self, lost_job: LostJob, job: QueuedJob) -> None:
        _kill_orphans(job)
        n_lost = job.losses + self.limits_losses if lost_job.repair is Repair.QUEUE else 0
        self.launchpad.fireworks.update_one({"fw_id": job.fw_id}, {"$set": {LOSSES: n_lost}})
        if lost_job.repair is Repair.QUEUE:
            # Before the launch is marked as failed, which would fail the jobs that depend on it.
            self.launchpad.rerun_fw(job.fw_id)
        action = FWAction({"_exception": {"_stacktrace": lost_job.reason}})
        self.launchpad.complete_launch(job.launch_id, action, "FIZZLED")


def _kill_orphans(job: QueuedJob) -> None:
    """Kill processes that a dead worker of this user started in the folder of its job."""
    if job.worker is None or job.launch is None:
        return
    for process in psutil.process_iter(["cwd", "environ"]):
        environment = process.info["environ"] or {}  # None: process of another user
        is_in_folder = process.info["cwd"] == job.launch["launch_dir"]
        if is_in_folder and environment.get(MARK) == job.worker.mark:
            with suppress(psutil.Error):
                process.kill()


def _reservation_problem(launch: Mapping[str, Any], queue: BatchQueue) -> str | None:
    batch_job = launch["state_history"][-1].get("reservation_id")
    age = _age(last_update(launch))
    if batch_job is None:
        return "it was not submitted to the queue" if age > SUBMISSION_SECONDS else None
    is_held = queue.holds_id(batch_job) if _is_ours(launch, queue) else None
    if is_held is False:
        return f"batch job {batch_job} is gone from the queue"
    if is_held is None and age > RESERVATION_EXPIRATION_SECS:
        return f"reserved {_duration(age)} ago"
    return None


def _is_ours(launch: Mapping[str, Any], queue: BatchQueue) -> bool:
    """Return whether this user reserved a job with the batch system of this machine."""
    worker = worker_of_launch(launch)
    if worker and worker.user != user_name():
        return False
    if worker and worker.cluster is not None:
        return worker.cluster == queue.cluster
    try:
        is_mine = Path(launch["launch_dir"]).stat().st_uid == os.getuid()
    except OSError:
        return False
    return is_mine and launch["host"] == socket.gethostname()


def _name(job: QueuedJob) -> str:
    """Return the name of the worker of a launched job."""
    return str(job.worker or f"a worker on {(job.launch or {}).get('host', 'some machine')}")


def _age(written: datetime | str) -> float:
    return (datetime.now(UTC) - as_utc(written)).total_seconds()


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
