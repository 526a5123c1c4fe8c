from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fireworks import FWorker
from typer.testing import CliRunner

from gan_htvs.core.stages import Step
from launchers.cli.main import app
from launchers.launchpad.batch_system import BatchSystem
from launchers.launchpad.feeder import submit
from launchers.launchpad.jobs import QueuedJob
from launchers.launchpad.workers import MARK, attach_worker
from launchers.monitor.failed_calculations import queue_again
from launchers.monitor.lost_runs import MAX_LOSSES, LostJob, Repair, Trouble, as_findings
from tests.jobs import SEARCH

from .conftest import HOUR, Queue, repairs, silent_since, states, taken_by, unit


def test_only_jobs_of_dead_workers_are_queued_again(launchpad, recovery, alive, dead):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    taken_by(launchpad, dead)
    taken_by(launchpad, alive)
    planned = recovery.recover(dry_run=True)
    assert states(launchpad) == ["RUNNING", "RUNNING"]
    assert recovery.recover() == planned
    assert repairs(planned) == [(Trouble.RUN, Repair.QUEUE)]
    assert "is gone" in planned[0].reason
    assert states(launchpad) == ["READY", "RUNNING"]
    assert recovery.recover() == []


def test_run_of_unknown_worker_is_lost_after_a_time_without_pings(launchpad, recovery, remote):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    launches = [taken_by(launchpad, remote), taken_by(launchpad, None)]
    for launch in launches:
        silent_since(launchpad, launch, 3 * HOUR)
    assert recovery.recover() == []
    shorter = replace(recovery, silent_for=2 * HOUR)
    assert repairs(shorter.recover()) == [(Trouble.RUN, Repair.QUEUE)] * 2
    assert states(launchpad) == ["READY", "READY"]


def test_run_of_living_worker_is_never_lost(launchpad, recovery, alive):
    submit(launchpad, [unit("a")], SEARCH)
    silent_since(launchpad, taken_by(launchpad, alive), 1000 * HOUR)
    assert replace(recovery, silent_for=0).recover() == []


def test_run_is_lost_when_its_batch_job_has_ended(launchpad, recovery, remote):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    for number in ("17", "18"):
        batch = {"batch_system": BatchSystem.SLURM, "batch_job": number, "cluster": "big"}
        taken_by(launchpad, remote.model_copy(update=batch))
    assert replace(recovery, queue=lambda: Queue(None)).recover() == []
    (lost_job,) = replace(recovery, queue=lambda: Queue(["18"])).recover()
    assert "slurm job 17 is gone" in lost_job.reason
    assert states(launchpad) == ["READY", "RUNNING"]


def test_concurrent_recoveries_repair_a_job_once(launchpad, recovery, dead, alive):
    submit(launchpad, [unit("a")], SEARCH)
    taken_by(launchpad, dead)
    (lost_job,) = recovery.runs()
    assert recovery.repair(lost_job)
    taken_by(launchpad, alive)
    assert not replace(recovery).repair(lost_job)
    assert states(launchpad) == ["RUNNING"]


def test_job_fails_after_maximum_number_of_losses(launchpad, recovery, dead):
    submit(launchpad, [unit("a")], SEARCH)
    for _ in range(MAX_LOSSES - 1):
        taken_by(launchpad, dead)
        assert repairs(recovery.recover()) == [(Trouble.RUN, Repair.QUEUE)]
    taken_by(launchpad, dead)
    assert repairs(recovery.recover()) == [(Trouble.RUN, Repair.FAIL)]
    assert states(launchpad) == ["FIZZLED"]
    (failure,) = launchpad.jobs(["search"], states=["FIZZLED"])
    assert f"lost {MAX_LOSSES} times" in failure.error
    # Losses before a retry by the user are not counted.
    queue_again(launchpad, [failure])
    taken_by(launchpad, dead)
    assert repairs(recovery.recover()) == [(Trouble.RUN, Repair.QUEUE)]


@pytest.mark.parametrize(
    ("step", "limits_losses"), [(Step.TRAIN, True), (Step.PRESCREEN, True), (Step.RELAX, False)]
)
def test_resumable_and_interrupted_jobs_are_always_queued_again(
    launchpad, recovery, dead, step, limits_losses
):
    submit(launchpad, [unit("a", step=step)], SEARCH)
    for _ in range(MAX_LOSSES + 1):
        taken_by(launchpad, dead)
        lost_jobs = replace(recovery, limits_losses=limits_losses).recover()
        assert repairs(lost_jobs) == [(Trouble.RUN, Repair.QUEUE)]


def test_children_of_lost_job_wait_for_its_repetition(launchpad, recovery, dead):
    """A release accepts failed parents, and could start before its parent has run."""
    submit(launchpad, [replace(unit("a"), releases="search")], SEARCH)
    taken_by(launchpad, dead)
    states_after_updates = []

    def recorded(update):
        def call(*arguments):
            update(*arguments)
            states_after_updates.append(tuple(states(launchpad)))

        return call

    launchpad.rerun_fw = recorded(launchpad.rerun_fw)
    launchpad.complete_launch = recorded(launchpad.complete_launch)
    recovery.recover()
    assert len(states_after_updates) == 2
    assert states(launchpad) == ["READY", "WAITING"]
    assert {release for _, release in states_after_updates} <= {"WAITING"}


def test_only_orphaned_processes_of_the_worker_are_killed(
    launchpad, recovery, dead, tmp_path, monkeypatch
):
    monkeypatch.delenv(MARK, raising=False)  # commands that ran in this process set it
    folder = tmp_path / "launcher_2026"
    folder.mkdir()
    submit(launchpad, [unit("a")], SEARCH)
    taken_by(launchpad, dead, folder)
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    marked = os.environ | {MARK: dead.mark}
    orphan = subprocess.Popen(program, cwd=folder, env=marked)
    others = [
        subprocess.Popen(program, cwd=tmp_path, env=marked),
        subprocess.Popen(program, cwd=folder),  # not marked
        subprocess.Popen(program, cwd=folder, env=os.environ | {MARK: "1@elsewhere"}),
    ]
    try:
        recovery.recover()
        assert orphan.wait(timeout=10) < 0
        assert [other.poll() for other in others] == [None] * 3
    finally:
        for process in (orphan, *others):
            process.kill()


def test_incomplete_checkout_is_queued_again(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    launchpad.fireworks.update_one({}, {"$set": {"state": "RESERVED"}})  # without a launch
    assert recovery.runs({"launches": []}) == []
    long_ago = datetime.now(UTC) - timedelta(seconds=60)
    launchpad.fireworks.update_one({}, {"$set": {"updated_on": long_ago}})
    assert [lost_job.job.fw_id for lost_job in recovery.runs({"launches": []})] == [1]
    assert repairs(recovery.recover()) == [(Trouble.RESERVATION, Repair.QUEUE)]
    assert states(launchpad) == ["READY"]


def reserved_by(launchpad, worker, folder, batch_job):
    """Reserve a job as ``qlaunch -r`` does."""
    fworker = FWorker()
    if worker:
        attach_worker(fworker, worker)
    _, launch_id = launchpad.reserve_fw(fworker, str(folder))
    if batch_job:
        launchpad.set_reservation_id(launch_id, batch_job)
    return launch_id


def test_reservation_is_lost_when_its_batch_job_has_ended(launchpad, recovery, remote, tmp_path):
    submit(launchpad, [unit(name) for name in "abcd"], SEARCH)
    login_node = remote.model_copy(update={"cluster": "big"})
    other_cluster = remote.model_copy(update={"cluster": "other"})
    reserved_by(launchpad, login_node, tmp_path, "17")
    reserved_by(launchpad, login_node, tmp_path, "18")
    reserved_by(launchpad, other_cluster, tmp_path, "19")
    reserved_by(
        launchpad, None, tmp_path, "20"
    )  # by FireWorks' qlaunch of this user on this machine
    assert replace(recovery, queue=lambda: Queue(None)).recover() == []
    lost_jobs = replace(recovery, queue=lambda: Queue(["18"])).recover()
    assert [lost_job.reason for lost_job in lost_jobs] == [
        "batch job 17 is gone from the queue",
        "batch job 20 is gone from the queue",
    ]
    assert states(launchpad) == ["READY", "RESERVED", "RESERVED", "READY"]


def test_reservation_without_batch_job_is_lost_after_a_time(launchpad, recovery, alive, tmp_path):
    submit(launchpad, [unit("a")], SEARCH)
    launch = reserved_by(launchpad, alive, tmp_path, None)
    assert recovery.recover() == []
    silent_since(launchpad, launch, HOUR)
    assert repairs(recovery.recover()) == [(Trouble.RESERVATION, Repair.QUEUE)]
    assert states(launchpad) == ["READY"]
    assert launchpad.launches.count_documents({}) == 1


def test_jobs_of_other_owners_are_not_repaired(launchpad, recovery, dead):
    submit(launchpad, [unit("a")], SEARCH)
    taken_by(launchpad, dead)
    assert replace(recovery, owners=["another"]).recover() == []
    assert len(replace(recovery, owners=None).recover()) == 1


def test_only_open_findings_have_a_fix():
    job = QueuedJob(fw_id=1, name="relax", state="RUNNING", updated_on="2026-11-30", launch=None)
    lost_job = LostJob(Trouble.RUN, job, "its worker is gone")

    def shown(lost_job, *, are_repaired):
        (finding,) = as_findings([lost_job], are_repaired=are_repaired)
        return finding.repair, finding.fix

    assert shown(lost_job, are_repaired=False) == (None, "gan-htvs recover")
    assert shown(lost_job, are_repaired=True) == ("queued again", None)
    for repair in (Repair.FAIL, Repair.NONE):
        unrepaired = replace(lost_job, repair=repair, fix="correct the cause")
        assert shown(unrepaired, are_repaired=True) == (None, "correct the cause")


def test_recover_command_prints_the_repairs(launchpad_file, launchpad, dead):
    submit(launchpad, [unit("a"), unit("b")], SEARCH)
    taken_by(launchpad, dead)

    def call(*arguments):
        return CliRunner().invoke(app, ["recover", "-l", str(launchpad_file), *arguments])

    planned = call("--dry-run").output
    assert "1 would be queued again" in planned
    assert "add (1)" in planned
    assert "fix: gan-htvs recover" in planned
    assert states(launchpad) == ["RUNNING", "READY"]
    done = call().output
    assert "repaired: queued again" in done
    assert "fix:" not in done
    assert "1 queued again" in done
    assert call().output.strip() == "Nothing to recover."
    unknown = call("no-such-campaign")
    assert unknown.exit_code == 2
