"""What was lost with a worker, a batch job or a machine: found, told, and queued again."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from fireworks.core.firework import FWAction
from fireworks.fw_config import RESERVATION_EXPIRATION_SECS, RUN_EXPIRATION_SECS

from gan_htvs.candidate import Step
from launchers.batch import BatchQueue, user_name
from launchers.imports import failed_imports
from launchers.launchpad import moment
from launchers.locks import BUSY_LOCK_SECONDS, LOCK_SECONDS, Locks
from launchers.losses import MAX_LOSSES, Cure, Loss, Trouble
from launchers.registry import registered
from launchers.units import CampaignUnits
from launchers.workers import MARK, Life, worker_of_launch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad
    from launchers.workers import Worker

CHECKOUT_SECONDS = 30.0
"""A worker takes a job in milliseconds; one that has been at it for longer is dead."""

SUBMISSION_SECONDS = 600.0
"""A batch system accepts a job in seconds; a reservation without one after so long is nobody's."""

CLAIM_SECONDS = 600.0
"""Queueing a job again takes a second; whoever has been at it for so long is dead."""

RESUMED = (Step.TRAIN, Step.PRESCREEN, Step.REFERENCES)
"""Steps that go on where they were stopped, so that every run of them is worth it."""

LOST = "lost"
"""Message of the launches of runs that were lost and may be the cause of it."""

INTERRUPTED = "interrupted"
"""Message of the launches of runs that were stopped together with all others."""

GIVEN_UP = "given up"
"""Message of the launches of runs after which nobody tries again."""


@dataclass
class Recovery:
    """Finds the jobs that were lost, and takes them up again.

    A job is left alone while its worker is alive, or may be and gives signs of life. Everything
    may be done twice, by several people at a time.

    Parameters
    ----------
    launchpad
        Where the jobs are.
    owners
        Whose jobs; None for all.
    everyone_is_here
        No other machine can reach the launchpad.
    silent_for
        Seconds; a run whose worker may be alive or dead is lost if nothing was heard of it for
        longer.
    blames
        Whether a job may be the cause of its losses, and is given up after some of them.
    lock_seconds
        A workflow that is locked for longer was locked by somebody who died; None: longer than any
        update takes on this launchpad.
    queue
        Makes a view of the batch system of this machine as it is then.
    """

    launchpad: CampaignLaunchPad
    owners: Sequence[str] | None = None
    everyone_is_here: bool = False
    silent_for: float = RUN_EXPIRATION_SECS
    blames: bool = True
    lock_seconds: float | None = None
    queue: Callable[[], BatchQueue] = BatchQueue

    @classmethod
    def of(cls, databases: Databases, campaign: str | None, silent_for: float | None) -> Recovery:
        """Prepare to recover the jobs of a registered campaign, or all that there are."""
        owners = CampaignUnits(registered(databases, campaign)).owners if campaign else None
        return cls(
            databases.launchpad(),
            owners,
            everyone_is_here=databases.settings.embedded_storage is not None,
            silent_for=RUN_EXPIRATION_SECS if silent_for is None else silent_for,
        )

    def recover(self, *, dry_run: bool = False) -> list[Loss]:
        """Find all that is lost and take it up again, or only say what would be done."""
        done = self._unlock({}, dry_run=dry_run)
        for loss in [*self.runs(), *failed_imports(self.launchpad, self.owners)]:
            if dry_run or self.cure(loss):
                done.append(loss)
        return done

    def cure(self, loss: Loss) -> bool:
        """Do what is to be done about one job; False if somebody else did, or it went on."""
        if loss.cure is Cure.LEAVE:
            return True
        # Whoever died may have done so with the lock of the workflow in its hand.
        self._unlock({"nodes": loss.fw_id})
        match loss.trouble:
            case Trouble.RUN:
                return self._cure_run(loss)
            case Trouble.RESERVATION:
                return self._cure_reservation(loss)
            case Trouble.IMPORT:
                if not self.launchpad.jobs(None, ["FIZZLED"], fw_id=loss.fw_id):
                    return False
                self.launchpad.rerun_fw(loss.fw_id)
            case _:
                self.launchpad.refresh(loss.fw_id)
        return True

    def runs(self) -> list[Loss]:
        """Find runs, reservations and ends that were lost with their workers."""
        jobs = self.launchpad.jobs(self.owners, ["RUNNING", "RESERVED"])
        launches = self.launchpad.last_launches(jobs)
        queue = self.queue()  # asked after the launchpad: a batch job that is gone never starts
        found = [self._loss_of(job, launches.get(job["fw_id"]), queue) for job in jobs]
        return [loss for loss in found if loss is not None]

    def half_taken(self) -> list[Loss]:
        """Find jobs whose workers died between taking them and putting their name on them."""
        jobs = self.launchpad.jobs(self.owners, ["RESERVED"], launches=[])
        return [loss for job in jobs if (loss := _half_taken(job)) is not None]

    def elsewhere(self) -> list[str]:
        """Name the workers that run jobs and cannot be seen from here."""
        return self._workers(self.owners, Life.UNKNOWN)

    def _unlock(self, query: dict[str, Any], *, dry_run: bool = False) -> list[Loss]:
        locks = Locks(self.launchpad)
        if not locks.look(query):
            return []
        seconds = self._lock_seconds()
        abandoned = locks.settle(seconds, query)
        if not dry_run:
            for workflow in abandoned:
                locks.finish(workflow)
        reason = f"locked for more than {seconds:.0f} s"
        return [
            Loss(Trouble.LOCK, Cure.FINISH, min(each["nodes"]), each["name"], reason)
            for each in abandoned
        ]

    def _lock_seconds(self) -> float:
        if self.lock_seconds is not None:
            return self.lock_seconds
        return BUSY_LOCK_SECONDS if self._workers(None, Life.ALIVE, Life.UNKNOWN) else LOCK_SECONDS

    def _workers(self, owners: Sequence[str] | None, *lives: Life) -> list[str]:
        jobs = self.launchpad.jobs(owners, ["RUNNING"])
        launches = self.launchpad.last_launches(jobs).values()
        queue = self.queue()
        return sorted({_name(each) for each in launches if self._life(each, queue) in lives})

    def _loss_of(
        self, job: dict[str, Any], launch: dict[str, Any] | None, queue: BatchQueue
    ) -> Loss | None:
        if launch is None:
            return _half_taken(job)
        match launch["state"]:
            case "RUNNING":
                reason = self._why_lost(launch, queue)
                return self._lost_run(job, launch, reason) if reason else None
            case "RESERVED":
                reason = _why_unreserved(launch, queue)
            case "READY":  # its reservation was cancelled by halves
                reason = "its reservation was cancelled"
            case _:  # the launch has ended, the job does not know
                is_dead = self._life(launch, queue) is Life.DEAD
                if is_dead or _age(launch["state_history"][-1]["created_on"]) > BUSY_LOCK_SECONDS:
                    return Loss.of(Trouble.END, job, f"{_name(launch)} died", launch, Cure.FINISH)
                return None
        return Loss.of(Trouble.RESERVATION, job, reason, launch) if reason else None

    def _life(self, launch: dict[str, Any], queue: BatchQueue) -> Life:
        worker = worker_of_launch(launch)
        if worker is None:
            return Life.UNKNOWN
        return worker.life(queue, everyone_is_here=self.everyone_is_here)

    def _why_lost(self, launch: dict[str, Any], queue: BatchQueue) -> str | None:
        life = self._life(launch, queue)
        if life is Life.DEAD:
            return f"{_name(launch)} is gone"
        ping = launch["state_history"][-1]
        silent = _age(ping.get("updated_on", ping["created_on"]))
        if life is Life.UNKNOWN and silent > self.silent_for:
            return f"{_name(launch)} has been silent for {_duration(silent)}"
        return None

    def _lost_run(self, job: dict[str, Any], launch: dict[str, Any], reason: str) -> Loss:
        n_losses = 1 + sum(message == LOST for message in self._messages(job))
        may_be_cause = self.blames and job["spec"].get("step") not in RESUMED
        if n_losses < MAX_LOSSES or not may_be_cause:
            return Loss.of(Trouble.RUN, job, reason, launch)
        reason = f"lost {n_losses} times, at last because {reason}"
        return Loss.of(Trouble.RUN, job, reason, launch, Cure.FAIL)

    def _messages(self, job: dict[str, Any]) -> list[str | None]:
        """Read what is written on the earlier launches of a job, since it was last given up."""
        launches = self.launchpad.launches.find(
            {"launch_id": {"$in": job["archived_launches"]}},
            {"launch_id": 1, "action.stored_data._message": 1},
        )
        latest_first = sorted(launches, key=itemgetter("launch_id"), reverse=True)
        actions = (launch.get("action") or {} for launch in latest_first)
        messages = (action.get("stored_data", {}).get("_message") for action in actions)
        return list(takewhile(lambda message: message != GIVEN_UP, messages))

    def _cure_run(self, loss: Loss) -> bool:
        if not self._claim(loss):
            return False
        self._end_orphans(loss)
        if loss.cure is Cure.FAIL:
            message = GIVEN_UP
        else:
            message = LOST if self.blames else INTERRUPTED
            # Before its launch is marked: the job, and what waits for it, have not failed.
            self.launchpad.rerun_fw(loss.fw_id)
        action = {"_message": message, "_exception": {"_stacktrace": loss.reason}}
        self.launchpad.complete_launch(loss.launch_id, FWAction(action), "FIZZLED")
        return True

    def _claim(self, loss: Loss) -> bool:
        """See to it that nobody else takes up the same run, which would start it twice."""
        now = datetime.now(UTC)
        stale = now - timedelta(seconds=CLAIM_SECONDS)
        unclaimed = {"$or": [{"lost_on": {"$exists": False}}, {"lost_on": {"$lt": stale}}]}
        claimed = self.launchpad.launches.update_one(
            {"launch_id": loss.launch_id, "state": "RUNNING", **unclaimed},
            {"$set": {"lost_on": now}},
        )
        if not claimed.modified_count:
            return False
        jobs = self.launchpad.jobs(None, ["RUNNING", "RESERVED"], fw_id=loss.fw_id)
        return any(loss.launch_id in job["launches"] for job in jobs)

    def _cure_reservation(self, loss: Loss) -> bool:
        jobs = self.launchpad.jobs(None, ["RESERVED"], fw_id=loss.fw_id)
        launch = self.launchpad.last_launches(jobs).get(loss.fw_id)
        if not jobs or (launch or {}).get("launch_id") != loss.launch_id:
            return False
        if launch and launch["state"] == "RESERVED":
            self.launchpad.cancel_reservation(loss.launch_id)
        elif launch is None or launch["state"] == "READY":
            self.launchpad.rerun_fw(loss.fw_id)
        else:
            return False
        return True

    def _end_orphans(self, loss: Loss) -> None:
        """Kill what a dead worker of ours left running in the folder of its job."""
        launch = self.launchpad.launches.find_one({"launch_id": loss.launch_id}) or {}
        if (worker := worker_of_launch(launch)) is None:
            return
        for process in psutil.process_iter(["cwd", "environ"]):
            environment = process.info["environ"] or {}  # None: another user's
            stands_there = process.info["cwd"] == launch.get("launch_dir")
            if stands_there and environment.get(MARK) == worker.mark:
                with suppress(psutil.Error):
                    process.kill()


def _half_taken(job: dict[str, Any]) -> Loss | None:
    if job["state"] != "RESERVED" or _age(job["updated_on"]) <= CHECKOUT_SECONDS:
        return None
    return Loss.of(Trouble.RESERVATION, job, "its worker died while taking it")


def _why_unreserved(launch: dict[str, Any], queue: BatchQueue) -> str | None:
    reservation = launch["state_history"][-1]
    batch_job = reservation.get("reservation_id")
    age = _age(reservation.get("updated_on", reservation["created_on"]))
    if batch_job is None:
        return "it never reached the queue" if age > SUBMISSION_SECONDS else None
    held = queue.holds_id(batch_job) if _is_ours(launch, queue) else None
    if held is False:
        return f"batch job {batch_job} is gone from the queue"
    if held is None and age > RESERVATION_EXPIRATION_SECS:
        return f"reserved {_duration(age)} ago"
    return None


def _is_ours(launch: dict[str, Any], queue: BatchQueue) -> bool:
    """Whether a reservation was made by this user with the batch system of this machine."""
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


def _name(launch: dict[str, Any]) -> str:
    """Name the worker of a launch."""
    worker: Worker | None = worker_of_launch(launch)
    return str(worker) if worker else f"a worker on {launch.get('host') or 'some machine'}"


def _age(written: datetime | str) -> float:
    return (datetime.now(UTC) - moment(written)).total_seconds()


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
