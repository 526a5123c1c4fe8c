from __future__ import annotations

from gan_htvs.results.builders.candidates import OUTPUT_INDEXES
from launchers.launchpad.builders import build_candidates


def test_build_creates_indexes_of_outputs(databases):
    build_candidates(databases)
    indexes = databases.launchpad().db["outputs"].index_information().values()
    assert set(OUTPUT_INDEXES) <= {tuple(index["key"]) for index in indexes}
