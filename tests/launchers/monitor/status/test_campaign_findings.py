"""Why a campaign does not go on."""

from __future__ import annotations

import os

import pytest
from fireworks import FWorker

from .conftest import (
    HOURS_AGO,
    firework,
    worker,
)


def waiting(site, category):
    """Queue a job as if hours ago."""
    site.queue(firework("relax", _category=category))
    then = {"updated_on": HOURS_AGO.isoformat()}
    site.launchpad.fireworks.update_many({"state": "READY"}, {"$set": then})


def test_a_category_that_no_worker_takes_is_named(site):
    site.register()
    site.queue(firework("train", _category="gpu"))
    assert site.found() == []  # queued just now
    waiting(site, "gpu")
    site.queue(firework("relax", _category="cpu"))
    site.start(worker("cpu"))
    (found,) = site.found()
    assert found.startswith("2 jobs of category gpu READY for 5 h")
    assert found.endswith("none seen yet")


@pytest.mark.parametrize(
    ("taker", "is_missed"),
    [
        (FWorker(), False),
        (FWorker(category=["gpu", "cpu"]), False),
        (FWorker(category="dft"), True),
    ],
)
def test_a_worker_that_is_there_is_not_missed(site, taker, is_missed):
    site.register()
    site.queue(firework("relax", owner="another", _category="dft"))
    site.queue(firework("relax", owner="another", _category="cpu"))
    site.start(taker)
    waiting(site, "gpu")
    assert bool(site.found()) == is_missed


def test_a_worker_that_takes_other_campaigns_only_does_not_count(site):
    site.register()
    site.queue(firework("relax", owner="another"))
    site.start(FWorker(query={"spec.campaign": {"$in": ["another"]}}))
    waiting(site, "cpu")
    assert "no worker takes any" in site.found()[0]


def test_runs_without_a_sign_of_life_are_for_recover(site):
    site.register()
    site.queue(firework("relax"))
    _, launch = site.start(worker())
    assert site.found() == []
    site.launchpad.ping_launch(launch, ptime=HOURS_AGO)
    launches = {"launch_id": launch}
    began = {"state_history.0.created_on": HOURS_AGO.isoformat()}
    site.launchpad.launches.update_one(launches, {"$set": began})
    (finding,) = site.status().findings
    assert finding.what.startswith("lost run (1): ")
    assert "has been silent for 5:0" in finding.what
    assert finding.fix == "gan-htvs recover"


def test_a_worker_whose_process_is_gone_is_told_at_once(site):
    site.register()
    for _ in range(2):
        site.queue(firework("relax"))
    site.start(worker(pid=os.getpid()))
    site.start(worker(pid=os.getpid(), started=0.0))  # the number of an earlier process
    (found,) = site.found()
    assert found.startswith("lost run (1): ")
    assert found.endswith("is gone")


def test_a_lock_that_stays_is_told(site):
    site.register()
    site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    assert site.found()[0].startswith("locked workflow (1)")


def test_workers_with_other_packages_than_the_submitter_are_named(site):
    site.register(versions={"torch": "2.6", "ase": "3.26"})
    for _ in range(3):
        site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.run(1, by=worker(versions={"torch": "2.6", "ase": "3.26"}))
    site.run(3, by=worker(versions={"torch": "2.7", "ase": "3.26"}))
    (found,) = (each for each in site.found() if "packages" in each)
    assert found.startswith("2 jobs with other packages than the submission, on ")
    assert "torch 2.6 (not 2.7)" in found
    assert "ase" not in found
