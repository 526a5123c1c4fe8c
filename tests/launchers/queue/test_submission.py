from __future__ import annotations

from launchers.launchpad.database import open_databases
from launchers.queue.submission import submit_campaign
from tests.helpers import mg_o


def test_submission_creates_indexes_and_queues_nothing_twice(launchpad_file, capsys):
    with open_databases(launchpad_file) as databases:
        submit_campaign(mg_o(), databases)
        database = databases.launchpad().db
        indexes = database["outputs"].index_information().values()
        keys = [[field for field, _ in index["key"]] for index in indexes]
        n_jobs = database["fireworks"].count_documents({})
        submit_campaign(mg_o(), databases)
        assert database["fireworks"].count_documents({}) == n_jobs > 0
    assert ["metadata.campaign", "metadata.step", "metadata.candidate_id"] in keys
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 workflow queued" in printed
    assert "0 workflows queued" in printed
