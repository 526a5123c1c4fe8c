from __future__ import annotations

from itertools import permutations

from launchers.launchpad.samples import longest_samples

SHORT = {"stream": "a", "tried": 9, "requested": 2}
EXTENDED = {"stream": "a", "tried": 12, "requested": 4}
LONGEST = {"stream": "a", "tried": 12, "requested": 6}
OTHER = {"stream": "b", "tried": 1, "requested": 1}


def test_longest_sample_of_each_stream_is_returned():
    for outputs in permutations([SHORT, EXTENDED, LONGEST, OTHER]):
        assert longest_samples(outputs) == {"a": LONGEST, "b": OTHER}
