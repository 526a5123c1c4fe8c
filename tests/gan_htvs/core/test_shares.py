from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_htvs.core.shares import round_shares


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=5), st.sampled_from([2, 9]))
def test_rounded_shares_have_the_sum_one_and_are_close(weights, decimals):
    shares = {str(i): weight / sum(weights) for i, weight in enumerate(weights)}
    rounded = round_shares(shares, decimals)
    assert sum(round(share * 10**decimals) for share in rounded.values()) == 10**decimals
    for name, share in shares.items():
        assert rounded.get(name, 0.0) == pytest.approx(share, abs=1.01 * 10**-decimals)


def test_thirds_add_up():
    thirds = dict.fromkeys(["MgO", "MnO", "O2"], 1 / 3)
    assert sorted(round_shares(thirds, 2).values()) == [0.33, 0.33, 0.34]
    assert round_shares({"MgO": 1.0}, 2) == {"MgO": 1.0}
    assert round_shares({}, 2) == {}
