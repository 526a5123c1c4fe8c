"""Recovery of updates that were interrupted by the death of a worker."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import jobflow
import pytest
from fireworks import FWAction, FWorker
from jobflow import Flow, Response, job

from gan_htvs.core.stages import Step
from launchers.launchpad.feeder import submit
from launchers.launchpad.locks import Locks
from launchers.launchpad.workers import attach_worker
from launchers.monitor.lost_runs import Repair, Trouble
from tests.jobs import SEARCH, add, labeled

from .conftest import chain, repairs, states, taken_by, unit


@job
def fan_out():
    return Response(replace=Flow([labeled(add(1, n), Step.RELAX) for n in range(2)]))


def test_unrecorded_completion_is_finished(launchpad, recovery, dead):
    submit(launchpad, [unit("a", *chain())], SEARCH)
    launch = taken_by(launchpad, dead)
    done = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": done})
    assert repairs(recovery.recover()) == [(Trouble.COMPLETION, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "READY"]


def test_interrupted_update_of_a_workflow_is_completed(launchpad, recovery, dead):
    submit(launchpad, [unit("a", *chain())], SEARCH)
    # The first job is completed; its worker died with the lock before it updated the second job.
    launch = taken_by(launchpad, dead)
    done = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": done})
    launchpad.fireworks.update_one({"name": "1st"}, {"$set": {"state": "COMPLETED"}})
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    locks = Locks(launchpad)
    locks.finish_stale(seconds=60)
    assert states(launchpad) == ["COMPLETED", "WAITING"]
    assert repairs(recovery.recover(dry_run=True)) == [(Trouble.LOCK, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "WAITING"]
    assert repairs(recovery.recover()) == [(Trouble.LOCK, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "READY"]


def test_lock_of_changing_workflow_is_not_stale(launchpad, monkeypatch):
    submit(launchpad, [unit("a")], SEARCH)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    times = iter((0, 100, 100))
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr("launchers.launchpad.locks.time", clock)
    locks = Locks(launchpad)
    locks.scan()
    launchpad.workflows.update_one({}, {"$set": {"updated_on": datetime.now(UTC)}})
    locks.scan()
    assert locks.stale(seconds=60) == []


def test_only_unchanged_locks_are_stale(launchpad, monkeypatch):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    workflows = launchpad.workflows
    workflows.update_many({}, {"$set": {"locked": True}})
    second = workflows.find_one({"metadata.unit": "b"})["_id"]

    def work(_):
        workflows.update_one({"_id": second}, {"$set": {"updated_on": datetime.now(UTC)}})
        time.sleep(0.1)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work)
    monkeypatch.setattr("launchers.launchpad.locks.time", clock)
    (stale,) = Locks(launchpad).wait_for_stale(seconds=0.5)
    assert stale["_id"] != second


def test_waiting_ends_when_all_initial_locks_have_changed(launchpad, monkeypatch):
    submit(launchpad, [unit("a")], SEARCH)
    workflows = launchpad.workflows
    workflows.update_many({}, {"$set": {"locked": True}})
    pauses = []

    def work(seconds):
        pauses.append(seconds)
        workflows.update_many({}, {"$set": {"updated_on": datetime.now(UTC)}})

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work)
    monkeypatch.setattr("launchers.launchpad.locks.time", clock)
    assert Locks(launchpad).wait_for_stale(seconds=60) == []
    assert len(pauses) == 1


class DyingCollection:
    """A collection whose client is killed when it replaces a document."""

    def __init__(self, collection):
        self.collection = collection
        self.is_dead = False

    def __getattr__(self, name):
        return getattr(self.collection, name)

    def find_one_and_replace(self, *_):
        self.is_dead = True
        raise KeyboardInterrupt

    def find_one_and_update(self, *arguments):
        return None if self.is_dead else self.collection.find_one_and_update(*arguments)


def test_jobs_added_by_an_interrupted_update_are_added_once(
    databases, launchpad, recovery, dead, monkeypatch
):
    """The worker wrote the new jobs and its own completion, but not the workflow."""
    submit(launchpad, [unit("a", fan_out())], SEARCH)
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", databases.job_store())
    fworker = FWorker()
    attach_worker(fworker, dead)
    job, launch = launchpad.checkout_fw(fworker, "/tmp")
    action = job.tasks[0].run_task(job.spec)
    dying = databases.launchpad()
    dying.workflows = DyingCollection(dying.workflows)
    with pytest.raises(KeyboardInterrupt):
        dying.complete_launch(launch, action, "COMPLETED")
    assert launchpad.fireworks.count_documents({}) == 3
    assert launchpad.workflows.find_one()["nodes"] == [1]

    recovery.recover()
    nodes = launchpad.workflows.find_one()["nodes"]
    assert sorted(nodes) == sorted(launchpad.get_fw_ids())
    assert states(launchpad) == ["READY", "READY", "COMPLETED"]
