from __future__ import annotations

from itertools import permutations

from launchers.shards import longest_shards

SHORT = {"stream": "a", "tried": 9, "requested": 2}
LONGER = {"stream": "a", "tried": 12, "requested": 4}
AT_ITS_END = {"stream": "a", "tried": 12, "requested": 6}
OTHER = {"stream": "b", "tried": 1, "requested": 1}
KNOWN_PHASES = {"proposals": []}


def test_a_lengthened_shard_replaces_the_shorter_in_any_order():
    for outputs in permutations([SHORT, LONGER, AT_ITS_END, OTHER, KNOWN_PHASES]):
        assert longest_shards(outputs) == {"a": AT_ITS_END, "b": OTHER}
