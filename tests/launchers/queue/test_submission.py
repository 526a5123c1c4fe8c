from __future__ import annotations

import pytest

from launchers.cli.plan_tables import submit_and_print
from launchers.launchpad.database import open_databases
from launchers.queue.submission import submit_campaign
from tests.helpers import mg_o


def test_submission_creates_indexes_and_queues_nothing_twice(launchpad_file, capsys):
    with open_databases(launchpad_file) as databases:
        first = submit_campaign(mg_o(), databases)
        database = databases.launchpad().db
        indexes = database["outputs"].index_information().values()
        keys = [[field for field, _ in index["key"]] for index in indexes]
        n_jobs = database["fireworks"].count_documents({})
        second = submit_campaign(mg_o(), databases)
        submit_and_print(mg_o(), databases, extend=False, workflows_at_once=None)
        assert database["fireworks"].count_documents({}) == n_jobs > 0
    assert ["metadata.campaign", "metadata.step", "metadata.candidate_id"] in keys
    assert (first.n_queued, first.n_properties) == (1, 0)
    assert second == first._replace(n_queued=0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "0 workflows queued; mg-o has 1 unfinished workflow on the launchpad." in printed


@pytest.mark.parametrize("state", ["READY", "PAUSED", "DEFUSED"])
def test_submission_with_jobs_held_by_hand_ends_with_an_error(launchpad_file, capsys, state):
    with open_databases(launchpad_file) as databases:
        submit_campaign(mg_o(), databases)
        databases.launchpad().fireworks.update_many({"state": "READY"}, {"$set": {"state": state}})
        is_stuck = submit_and_print(mg_o(), databases, extend=False, workflows_at_once=None)
    assert is_stuck is (state != "READY")
    assert ("gan-htvs lpad" in capsys.readouterr().out) is is_stuck
