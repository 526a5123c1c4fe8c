from __future__ import annotations

from launchers.launchpad.builders import OUTPUT_INDEXES, build_candidates


def test_a_build_makes_the_indexes_that_outputs_are_looked_up_by(databases):
    build_candidates(databases)
    made = databases.launchpad().db["outputs"].index_information().values()
    fields = {tuple(field for field, _ in each["key"]) for each in made}
    assert set(OUTPUT_INDEXES) <= fields
