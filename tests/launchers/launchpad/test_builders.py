from __future__ import annotations

from launchers.launchpad.builders import OUTPUT_INDEXES, build_candidates


def test_build_creates_indexes_of_outputs(databases):
    build_candidates(databases)
    indexes = databases.launchpad().db["outputs"].index_information().values()
    fields = {tuple(field for field, _ in index["key"]) for index in indexes}
    assert set(OUTPUT_INDEXES) <= fields
