"""Findings about campaigns."""

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
    """Queue a job that is waiting for hours."""
    site.queue(firework("relax", _category=category))
    then = {"updated_on": HOURS_AGO.isoformat()}
    site.launchpad.fireworks.update_many({"state": "READY"}, {"$set": then})


def test_category_without_worker_is_reported(site):
    site.register()
    site.queue(firework("train", _category="gpu"))
    assert site.problems() == []  # queued just now
    waiting(site, "gpu")
    site.queue(firework("relax", _category="cpu"))
    site.start(worker("cpu"))
    (problem,) = site.problems()
    assert problem.startswith("2 jobs of category gpu READY for 5 h")


@pytest.mark.parametrize(
    ("fworker", "is_reported"),
    [
        (FWorker(), False),
        (FWorker(category=["gpu", "cpu"]), False),
        (FWorker(category="dft"), True),
    ],
)
def test_category_with_worker_is_not_reported(site, fworker, is_reported):
    site.register()
    site.queue(firework("relax", owner="another", _category="dft"))
    site.queue(firework("relax", owner="another", _category="cpu"))
    site.start(fworker)
    waiting(site, "gpu")
    assert bool(site.problems()) == is_reported


def test_workers_of_other_campaigns_are_ignored(site):
    site.register()
    site.queue(firework("relax", owner="another"))
    site.start(FWorker(query={"spec.campaign": {"$in": ["another"]}}))
    waiting(site, "cpu")
    assert len(site.problems()) == 1


def test_run_without_pings_is_reported_with_recover_as_fix(site):
    site.register()
    site.queue(firework("relax"))
    _, launch = site.start(worker())
    assert site.problems() == []
    site.launchpad.ping_launch(launch, ptime=HOURS_AGO)
    launches = {"launch_id": launch}
    began = {"state_history.0.created_on": HOURS_AGO.isoformat()}
    site.launchpad.launches.update_one(launches, {"$set": began})
    (finding,) = site.status().findings
    assert finding.what.startswith("lost run (1): ")
    assert finding.fix == "gan-htvs recover"


def test_run_of_ended_process_is_reported(site):
    site.register()
    for _ in range(2):
        site.queue(firework("relax"))
    site.start(worker(pid=os.getpid()))
    site.start(worker(pid=os.getpid(), started=0.0))  # the pid of an earlier process
    (problem,) = site.problems()
    assert problem.startswith("lost run (1): ")


def test_stale_lock_is_reported(site):
    site.register()
    site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    assert site.problems()[0].startswith("locked workflow (1)")


def test_workers_with_other_package_versions_are_reported(site):
    site.register(versions={"torch": "2.6", "ase": "3.26"})
    for _ in range(3):
        site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.run(1, by=worker(versions={"torch": "2.6", "ase": "3.26"}))
    site.run(3, by=worker(versions={"torch": "2.7", "ase": "3.26"}))
    (problem,) = (what for what in site.problems() if "package" in what)
    assert problem.startswith("2 jobs ")
    assert "torch 2.6 (not 2.7)" in problem
    assert "ase" not in problem
