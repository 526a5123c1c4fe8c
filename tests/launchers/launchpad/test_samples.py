from __future__ import annotations

from itertools import permutations

from launchers.launchpad.samples import longest_samples

SHORT = {"stream": "a", "tried": 9, "requested": 2}
LONGER = {"stream": "a", "tried": 12, "requested": 4}
AT_ITS_END = {"stream": "a", "tried": 12, "requested": 6}
OTHER = {"stream": "b", "tried": 1, "requested": 1}


def test_a_lengthened_sample_replaces_the_shorter_in_any_order():
    for outputs in permutations([SHORT, LONGER, AT_ITS_END, OTHER]):
        assert longest_samples(outputs) == {"a": AT_ITS_END, "b": OTHER}
