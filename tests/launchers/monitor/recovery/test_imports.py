"""Jobs that a node cannot import."""

from __future__ import annotations

import pytest
from fireworks import FWAction

from launchers.launchpad.feeder import submit
from launchers.launchpad.jobs import worker_of
from launchers.monitor.lost_runs import MAX_LOSSES, Cure, Trouble
from tests.jobs import SEARCH

from .conftest import states, taken_by, told, unit


def broken(launchpad, trace, *, launched):
    """Have a job fail on a node, or before, since it could not be imported."""
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
    ("trace", "cure"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'yaml'\n", Cure.QUEUE),
        ("Traceback\nModuleNotFoundError: No module named 'no_such_module'\n", Cure.LEAVE),
        ("Traceback\nImportError: cannot import name 'dump' from 'yaml' (/x.py)\n", Cure.QUEUE),
        ("Traceback\nImportError: cannot import name 'nix' from 'yaml' (/x.py)\n", Cure.LEAVE),
    ],
)
def test_a_job_that_could_not_be_imported_is_queued_again_once_it_can(
    launchpad, recovery, trace, cure, launched
):
    submit(launchpad, [unit("a")], SEARCH)
    broken(launchpad, trace, launched=launched)
    (loss,) = recovery.recover()
    assert (loss.trouble, loss.cure) == (Trouble.IMPORT, cure)
    assert states(launchpad) == ["READY" if cure is Cure.QUEUE else "FIZZLED"]
    if cure is Cure.LEAVE:
        assert "install it" in loss.reason


def test_a_job_that_cannot_be_read_here_is_left_and_named(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    moved = {"spec._tasks.0.job.function.@module": "a_module_that_moved"}
    launchpad.fireworks.update_one({}, {"$set": moved})
    assert launchpad._get_a_fw_to_run(worker_of(["search"]).query) is None
    assert states(launchpad) == ["FIZZLED"]
    (loss,) = recovery.recover()
    assert loss.cure is Cure.LEAVE
    assert "a_module_that_moved" in loss.reason


def test_a_node_that_never_can_is_not_tried_for_ever(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    for cure in (Cure.QUEUE,) * (MAX_LOSSES - 1) + (Cure.LEAVE,):
        broken(launchpad, "ModuleNotFoundError: No module named 'yaml'", launched=True)
        assert told(recovery.recover()) == [(Trouble.IMPORT, cure)]


def test_a_job_that_failed_by_itself_is_no_loss(launchpad, recovery):
    submit(launchpad, [unit("a")], SEARCH)
    broken(launchpad, "ImportError: no\nValueError: too hot\n", launched=True)
    assert recovery.recover() == []
