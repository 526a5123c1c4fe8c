from __future__ import annotations

import pytest

from gan_htvs.core.statistics import Share


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe, Stat. Med. 1998, 17, 857, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_match_published_values(k, n, low, high):
    share = Share(k=k, n=n)
    assert share.value == k / n
    assert share.interval == pytest.approx((low, high), abs=5e-5)


def test_share_of_zero_has_no_value():
    assert Share(k=0, n=0).value is None
    assert Share(k=0, n=0).interval is None
