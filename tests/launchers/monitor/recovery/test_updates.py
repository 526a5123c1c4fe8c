"""Workers that die while they change a workflow."""

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

from .conftest import chain, states, taken_by, told, unit


@job
def fan_out():
    return Response(replace=Flow([labeled(add(1, n), Step.RELAX) for n in range(2)]))


def test_an_end_that_the_workflow_was_not_told_is_told(launchpad, recovery, dead):
    submit(launchpad, [unit("a", *chain())], SEARCH)
    launch = taken_by(launchpad, dead)
    done = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": done})
    assert told(recovery.recover()) == [(Trouble.COMPLETION, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "READY"]


def test_a_workflow_whose_worker_died_in_the_middle_of_an_update_goes_on(launchpad, recovery, dead):
    submit(launchpad, [unit("a", *chain())], SEARCH)
    # The first job is done, its worker died before it told the second, with the lock in its hand.
    launch = taken_by(launchpad, dead)
    done = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": done})
    launchpad.fireworks.update_one({"name": "1st"}, {"$set": {"state": "COMPLETED"}})
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    locks = Locks(launchpad)
    locks.finish_stale(seconds=60)
    assert states(launchpad) == ["COMPLETED", "WAITING"]
    assert told(recovery.recover(dry_run=True)) == [(Trouble.LOCK, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "WAITING"]
    assert told(recovery.recover()) == [(Trouble.LOCK, Repair.FINISH)]
    assert states(launchpad) == ["COMPLETED", "READY"]


def test_a_lock_that_changes_hands_is_not_abandoned(launchpad):
    submit(launchpad, [unit("a")], SEARCH)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    locks = Locks(launchpad)
    locks.look()
    launchpad.workflows.update_one({}, {"$set": {"updated_on": datetime.now(UTC)}})
    locks._seen = {lock: (since - 100, workflow) for lock, (since, workflow) in locks._seen.items()}
    locks.look()
    assert locks.abandoned(seconds=60) == []


def test_locks_of_those_who_go_on_are_not_waited_for(launchpad, monkeypatch):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    workflows = launchpad.workflows
    workflows.update_many({}, {"$set": {"locked": True}})
    second = workflows.find_one({"metadata.unit": "b"})["_id"]

    def work(_):
        workflows.update_one({"_id": second}, {"$set": {"updated_on": datetime.now(UTC)}})
        time.sleep(0.1)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work)
    monkeypatch.setattr("launchers.launchpad.locks.time", clock)
    (abandoned,) = Locks(launchpad).settle(seconds=0.5)
    assert abandoned["_id"] != second


def test_a_launchpad_that_is_busy_all_the_time_is_not_waited_for(launchpad, monkeypatch):
    submit(launchpad, [unit("a")], SEARCH)
    workflows = launchpad.workflows
    workflows.update_many({}, {"$set": {"locked": True}})
    naps = []

    def work(seconds):
        naps.append(seconds)
        workflows.update_many({}, {"$set": {"updated_on": datetime.now(UTC)}})

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work)
    monkeypatch.setattr("launchers.launchpad.locks.time", clock)
    assert Locks(launchpad).settle(seconds=60) == []
    assert len(naps) == 1


class DyingCollection:
    """A collection whose client is killed when it wants to replace a document."""

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


def test_jobs_that_a_dying_worker_was_adding_are_added_once(
    databases, launchpad, recovery, dead, monkeypatch
):
    """It had written the new jobs and its own end, and died before the workflow knew."""
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
