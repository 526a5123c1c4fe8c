"""Findings about campaigns."""

from __future__ import annotations

import os

import pytest
from fireworks import FWorker

from launchers.cli.campaign_summary import print_unfinished

from .conftest import (
    HOURS_AGO,
    firework,
    gate,
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


@pytest.mark.parametrize(
    ("state", "fix"), [("PAUSED", "lpad resume_fws"), ("DEFUSED", "lpad reignite_fws")]
)
def test_jobs_held_by_hand_are_the_reason_of_a_standstill(site, state, fix):
    site.register()
    relax = firework("relax")
    site.queue(relax, firework("gate", parents=[relax]))
    change = site.launchpad.pause_fw if state == "PAUSED" else site.launchpad.defuse_fw
    change(site.launchpad.fireworks.find_one({"spec.step": "relax"})["fw_id"])
    status = site.status()
    (finding,) = status.findings
    assert status.is_stuck
    assert state in finding.what
    assert fix in finding.fix


def test_evaluated_campaign_with_a_held_job_is_not_finished(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(12)))
    assert site.status().is_finished
    site.queue(firework("hybrid"))
    site.launchpad.pause_fw(site.launchpad.fireworks.find_one()["fw_id"])
    assert not site.status().is_finished
    assert site.status().is_stuck


def test_archived_jobs_are_not_queued(site):
    site.register()
    site.queue(firework("relax"))
    site.launchpad.archive_wf(site.launchpad.fireworks.find_one()["fw_id"])
    (finding,) = site.status().findings
    assert "12 structures left" in finding.what
    assert "ARCHIVED" in finding.what
    assert "gan-htvs submit" in finding.fix


@pytest.mark.parametrize("is_finished", [True, False])
def test_summary_of_a_run_says_what_is_left(site, capsys, is_finished):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(12 if is_finished else 11)))
    assert print_unfinished("mg-o", site.databases) is not is_finished
    assert ("1 left" in capsys.readouterr().out) is not is_finished


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
