from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fireworks import FWAction
from jobflow import Flow, job

from flows.campaign import Unit
from flows.steps import label
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Step
from gan_htvs.routing import Category
from launchers.database import open_databases
from launchers.launchpad import WORKER_PREFIX, worker_name, worker_of

SEARCH = Campaign(
    name="search",
    chemical_system={"caps": {"Mg": 2, "O": 2}},
    oxidation_states={"Mg": (2, 2), "O": (-2, -2)},
)


@job
def add(a, b):
    return a + b


def unit(key: str, owner: str = "search") -> Unit:
    adding = add(1, 2)
    label(adding, owner, Step.RELAX, Category.CPU)
    return Unit(key, Flow([adding]))


@pytest.fixture
def launchpad(launchpad_file):
    with open_databases(launchpad_file) as databases:
        launchpad = databases.launchpad()
        launchpad.initialise()
        yield launchpad


def test_submitting_twice_adds_nothing(launchpad):
    assert launchpad.submit([unit("a"), unit("b")], SEARCH) == 2
    assert launchpad.submit([unit("a"), unit("b"), unit("c")], SEARCH) == 1
    assert launchpad.states(["search"]) == {("relax", "READY"): 3}


def test_training_is_taken_before_everything_else(launchpad):
    training = add(1, 2)
    label(training, "search", Step.TRAIN, Category.GPU)
    launchpad.submit([unit("a"), Unit("b", Flow([training])), unit("c")], SEARCH)
    first, _ = launchpad.checkout_fw(worker_of(["search"]), "/tmp")
    assert first.spec["step"] == "train"


def test_initialising_again_keeps_what_is_queued(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    launchpad.initialise()
    assert launchpad.is_busy(["search"])


def test_no_job_carries_the_address_or_password_of_a_store(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    task = launchpad.fireworks.find_one()["spec"]["_tasks"][0]
    assert task["store"] is None


def test_workers_take_the_work_of_their_owners_only(launchpad):
    launchpad.submit([unit("a", "another")], SEARCH)
    assert not launchpad.is_busy(["search", "references"])
    assert not launchpad.run_exists(worker_of(["search", "references"]))
    launchpad.submit([unit("b", "references")], SEARCH)
    assert launchpad.run_exists(worker_of(["search", "references"]))


def test_ids_are_unique_with_many_writers(launchpad):
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: launchpad.get_new_fw_id(), range(200)))
    assert len(set(ids)) == 200
    first = launchpad.get_new_fw_id(10)
    assert launchpad.get_new_fw_id() == first + 10


def running_on(launchpad, worker, folder="/tmp"):
    """Have a job taken by a worker of this name."""
    taker = worker_of(["search"])
    taker.name = worker
    launchpad.checkout_fw(taker, str(folder))


def test_a_job_of_a_dead_worker_is_queued_again(launchpad):
    launchpad.submit([unit("a"), unit("b")], SEARCH)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = worker_name()
    here, _, started = mine.rsplit(":", 2)
    running_on(launchpad, mine)
    running_on(launchpad, f"{here}:{dead.pid}:{started}")
    launchpad.workflows.update_many({}, {"$set": {"locked": True}})

    (lost,) = launchpad.lost(["search"])
    launchpad.requeue(lost)
    assert launchpad.states(["search"]) == {("relax", "RUNNING"): 1, ("relax", "READY"): 1}


@pytest.mark.parametrize(("folder", "ends"), [("launcher_2026", True), ("home", False)])
def test_what_a_dead_worker_left_running_in_its_folder_is_ended(launchpad, tmp_path, folder, ends):
    (tmp_path / folder).mkdir()
    launchpad.submit([unit("a")], SEARCH)
    running_on(launchpad, f"{WORKER_PREFIX}@elsewhere:1:1000", tmp_path / folder)
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    orphan = subprocess.Popen(program, cwd=tmp_path / folder)
    neighbour = subprocess.Popen(program, cwd=tmp_path)
    (lost,) = launchpad.lost(["search"], all_workers_here=True)
    launchpad.requeue(lost)
    try:
        if ends:
            assert orphan.wait(timeout=10) < 0
        assert (orphan.poll() is not None) == ends
        assert neighbour.poll() is None
    finally:
        orphan.kill()
        neighbour.kill()


def test_a_recycled_pid_is_not_the_worker(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    here, pid, started = worker_name().rsplit(":", 2)
    running_on(launchpad, f"{here}:{pid}:{int(started) - 1000}")
    assert len(launchpad.lost(["search"])) == 1


def test_a_worker_of_another_machine_is_left_alone_unless_nobody_else_can_be_there(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    elsewhere = f"{WORKER_PREFIX}@elsewhere:1:1000"
    running_on(launchpad, elsewhere)
    assert launchpad.lost(["search"]) == []
    assert launchpad.workers_elsewhere(["search"]) == [elsewhere]
    assert len(launchpad.lost(["search"], all_workers_here=True)) == 1


def test_a_job_whose_worker_died_while_taking_it_is_queued_again(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    launchpad._get_a_fw_to_run(worker_of(["search"]).query)  # the first half of a checkout
    assert launchpad.states(["search"]) == {("relax", "RESERVED"): 1}
    assert launchpad.half_taken(["search"]) == []
    (half_taken,) = launchpad.half_taken(["search"], seconds=0)
    launchpad.requeue(half_taken)
    assert launchpad.states(["search"]) == {("relax", "READY"): 1}


def test_a_workflow_whose_worker_died_in_the_middle_of_an_update_goes_on(launchpad):
    first = add(1, 2)
    second = add(first.output, 2)
    for each in (first, second):
        label(each, "search", Step.RELAX, Category.CPU)
    launchpad.submit([Unit("a", Flow([first, second]))], SEARCH)
    # The first job is done, its worker died before it told the second, with the lock in its hand.
    parent, launch = launchpad.checkout_fw(worker_of(["search"]), "/tmp")
    done = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": done})
    launchpad.fireworks.update_one({"fw_id": parent.fw_id}, {"$set": {"state": "COMPLETED"}})
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    assert launchpad.unlock_abandoned() == 1
    assert launchpad.states(["search"]) == {("relax", "COMPLETED"): 1, ("relax", "WAITING"): 1}
    assert launchpad.unlock_abandoned(seconds=0) == 0
    assert launchpad.states(["search"]) == {("relax", "COMPLETED"): 1, ("relax", "READY"): 1}


def test_a_reservation_in_a_queue_is_left_alone(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    launchpad.reserve_fw(worker_of(["search"]), "/tmp")
    assert launchpad.states(["search"]) == {("relax", "RESERVED"): 1}
    assert launchpad.half_taken(["search"], seconds=0) == []


def test_a_job_that_kills_its_workers_is_given_up(launchpad):
    launchpad.submit([unit("a")], SEARCH)
    here, pid, _ = worker_name().rsplit(":", 2)
    running_on(launchpad, f"{here}:{pid}:0")
    (lost,) = launchpad.lost(["search"])
    launchpad.give_up(lost)
    assert launchpad.states(["search"]) == {("relax", "FIZZLED"): 1}
    assert launchpad.retry(["search"], [Step.GATE]) == 0
    assert launchpad.retry(["search"], [Step.RELAX]) == 1
