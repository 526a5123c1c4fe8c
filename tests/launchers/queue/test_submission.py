from __future__ import annotations

from launchers.launchpad.database import open_databases
from launchers.queue.submission import submit_campaign
from tests.helpers import mg_o


def test_submission_creates_indexes_and_queues_nothing_twice(launchpad_file):
    with open_databases(launchpad_file) as databases:
        first = submit_campaign(mg_o(), databases)
        database = databases.launchpad().db
        indexes = database["outputs"].index_information().values()
        keys = [[field for field, _ in index["key"]] for index in indexes]
        n_jobs = database["fireworks"].count_documents({})
        second = submit_campaign(mg_o(), databases)
        assert database["fireworks"].count_documents({}) == n_jobs > 0
    assert ["metadata.campaign", "metadata.step", "metadata.candidate_id"] in keys
    assert (first.n_queued, first.n_gaps) == (1, 0)
    assert second == first._replace(n_queued=0)
