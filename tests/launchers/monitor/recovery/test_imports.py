"""Recovery of jobs that a machine could not import."""

from __future__ import annotations

import pytest
from fireworks import FWAction

from launchers.launchpad.feeder import submit
from launchers.launchpad.jobs import worker_of
from launchers.monitor.lost_runs import MAX_LOSSES, Repair, Trouble
from tests.jobs import SEARCH

from .conftest import repairs, states, taken_by, unit


def fail_import(launchpad, trace, *, launched):
    """Let a job fail with this traceback, during its launch or when FireWorks loads it."""
    if launched:
        launch = taken_by(launchpad, None)
        action = FWAction({"_exception": {"_stacktrace": trace}})
        launchpad.complete_launch(launch, action, "FIZZLED")
    else:
        fizzled = {"state": "FIZZLED", "spec._exception_details": {"_stacktrace": trace}}
        launchpad.fireworks.update_one({}, {"$set": fizzled})
    assert states(launchpad) == ["FIZZLED"]


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize(
    ("trace", "repair"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'yaml'\n", Repair.QUEUE),
        ("Traceback\nModuleNotFoundError: No module named 'no_such_module'\n", Repair.NONE),
        ("Traceback\nImportError: cannot import name 'dump' from 'yaml' (/x.py)\n", Repair.QUEUE),
        ("Traceback\nImportError: cannot import name 'nix' from 'yaml' (/x.py)\n", Repair.NONE),
    ],
)
def test_failed_import_is_queued_again_when_it_succeeds_here(
    launchpad, recovery, trace, repair, launched
):
    submit(launchpad, [unit("a")], SEARCH)
    fail_import(launchpad, trace, launched=launched)
    (lost_job,) = recovery.recover()
    assert (lost_job.trouble, lost_job.repair) == (Trouble.IMPORT, repair)
    assert states(launchpad) == ["READY" if repair is Repair.QUEUE else "FIZZLED"]
    if repair is Repair.NONE:
        assert "install it" in lost_job.fix


def test_job_that_cannot_be_loaded_here_is_reported_only(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    moved = {"spec._tasks.0.job.function.@module": "a_module_that_moved"}
    launchpad.fireworks.update_one({}, {"$set": moved})
    assert launchpad.checkout_fw(worker_of(["search"]), "/tmp") == (None, None)
    assert states(launchpad) == ["FIZZLED"]
    (lost_job,) = recovery.recover()
    assert lost_job.repair is Repair.NONE
    assert "a_module_that_moved" in lost_job.reason


def test_number_of_retries_of_failed_imports_is_limited(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    for repair in (Repair.QUEUE,) * (MAX_LOSSES - 1) + (Repair.NONE,):
        fail_import(launchpad, "ModuleNotFoundError: No module named 'yaml'", launched=True)
        assert repairs(recovery.recover()) == [(Trouble.IMPORT, repair)]


def test_import_error_raised_by_a_job_is_not_repaired(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    fail_import(launchpad, "ImportError: no\nValueError: too hot\n", launched=True)
    assert recovery.recover() == []
