"""Jobs of workers that are alive, dead or unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fireworks import FWorker
from jobflow import Flow

from gan_htvs.core.stages import Step
from launchers.launchpad.batch_system import BatchQueue, BatchSystem
from launchers.launchpad.units import Unit
from launchers.launchpad.workers import attach_worker, this_worker
from launchers.monitor.recovery import Recovery
from tests.jobs import add, labeled

HOUR = 3600.0


def chain():
    first = add(1, 2)
    second = add(first.output, 2)
    first.name, second.name = "1st", "2nd"
    return first, second


def unit(key, *jobs, step=Step.RELAX):
    jobs = jobs or (add(1, 2),)
    for job in jobs:
        labeled(job, step)
    return Unit(key, Flow(list(jobs)))


class Queue(BatchQueue):
    """A batch system of the cluster "big" with these jobs; None: it does not respond."""

    def __init__(self, ids):
        super().__init__(BatchSystem.SLURM)
        self.ids = ids

    @property
    def cluster(self):
        return "big"

    def holds_id(self, job):
        return None if self.ids is None else job in self.ids


@pytest.fixture
def recovery(launchpad):
    return Recovery(launchpad, ["search"], lock_seconds=0, queue=lambda: Queue(()))


@pytest.fixture
def alive():
    return this_worker()


@pytest.fixture
def dead(alive):
    """A worker of this machine that has ended; another process has its pid."""
    return alive.model_copy(update={"started": 0.0})


@pytest.fixture
def remote(alive):
    """A worker on another machine."""
    return alive.model_copy(update={"host": "elsewhere"})


def taken_by(launchpad, worker, folder="/tmp"):
    """Check out a job by a worker, None for a stock worker; return the launch id."""
    fworker = FWorker()
    if worker:
        attach_worker(fworker, worker)
    _, launch_id = launchpad.checkout_fw(fworker, str(folder))
    return launch_id


def silent_since(launchpad, launch, seconds):
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    fields = {"state_history.0.created_on": then, "state_history.0.updated_on": then}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": fields})


def states(launchpad):
    """Return the states of all jobs, ordered by name and id."""
    jobs = launchpad.fireworks.find({}).sort([("name", 1), ("fw_id", 1)])
    return [job["state"] for job in jobs]


def repairs(lost_jobs):
    return [(lost_job.trouble, lost_job.repair) for lost_job in lost_jobs]
