from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fireworks import Firework, Workflow
from jobflow import Flow

from gan_htvs.core.stages import Step
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import submit
from launchers.launchpad.jobs import worker_of
from launchers.launchpad.units import Unit
from launchers.launchpad.workers import this_worker
from tests.jobs import SEARCH, add, labeled


def unit(key: str, owner: str = "search") -> Unit:
    return Unit(key, Flow([labeled(add(1, 2), Step.RELAX, owner)]))


def test_units_are_not_queued_twice(launchpad):
    assert submit(launchpad, [unit("a"), unit("b")], SEARCH) == 2
    assert submit(launchpad, [unit("a"), unit("b"), unit("c")], SEARCH) == 1
    assert launchpad.states(["search"]) == {("relax", "READY"): 3}


def test_lease_of_killed_local_feeder_is_taken_over(launchpad, monkeypatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with monkeypatch.context() as patch:
        killed = this_worker().model_copy(update={"pid": gone.pid})
        patch.setattr("launchers.launchpad.jobs.this_worker", lambda: killed)
        feeding = launchpad.sole_feeder()
        feeding.__enter__()(["a"])  # and is never closed
    monkeypatch.setattr("launchers.launchpad.jobs.LEASE_POLL_SECONDS", None)  # polling would raise
    assert submit(launchpad, [unit("a")], SEARCH) == 1


def test_lease_of_living_feeder_is_waited_for(launchpad, monkeypatch):
    monkeypatch.setattr("launchers.launchpad.jobs.LEASE_POLL_SECONDS", None)
    with launchpad.sole_feeder(), pytest.raises(TypeError):  # it polls
        submit(launchpad, [unit("a")], SEARCH)


def test_initializing_again_keeps_queued_jobs(launchpad):
    submit(launchpad, [unit("a")], SEARCH)
    launchpad.initialize()
    assert launchpad.is_busy(["search"])


def test_workers_run_only_jobs_of_their_owners(launchpad):
    submit(launchpad, [unit("a", SEARCH)], SEARCH)
    assert not launchpad.is_busy(["search", "references"])
    assert not launchpad.run_exists(worker_of(["search", "references"]))
    submit(launchpad, [unit("b", "references")], SEARCH)
    assert launchpad.run_exists(worker_of(["search", "references"]))


def test_ids_are_unique_with_concurrent_writers(launchpad):
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: launchpad.get_new_fw_id(), range(200)))
    assert len(set(ids)) == 200
    first = launchpad.get_new_fw_id(10)
    assert launchpad.get_new_fw_id() == first + 10


def test_ids_of_bulk_workflows_are_unique_with_concurrent_writers(launchpad):
    def add_five(_):
        launchpad.bulk_add_wfs([Workflow([Firework([])]) for _ in range(5)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_five, range(20)))
    ids = [job["fw_id"] for job in launchpad.fireworks.find({}, {"fw_id": 1})]
    assert sorted(ids) == list(range(1, 101))


def test_uninitialized_launchpad_is_an_error(launchpad_file):
    with (
        open_databases(launchpad_file) as databases,
        pytest.raises(ValueError, match="initialized"),
    ):
        databases.launchpad().get_new_fw_id()
