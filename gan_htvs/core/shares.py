"""Shares of a whole that are rounded without changing their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def round_shares(shares: Mapping[str, float], decimals: int) -> dict[str, float]:
    """Round shares with the sum 1 so that the rounded ones have this sum, too.

    The method of largest remainders: all shares are rounded down, and those with the largest
    remainders are increased by one unit of the last decimal.

    Parameters
    ----------
    shares
        Shares by name; their sum is 1.
    decimals
        Decimals of the result. Shares that are rounded to zero are omitted.

    Examples
    --------
    >>> round_shares({"MgO": 1 / 3, "MnO": 1 / 3, "O2": 1 / 3}, 2)
    {'MgO': 0.34, 'MnO': 0.33, 'O2': 0.33}
    """
    whole = 10**decimals
    units = {name: int(share * whole) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: units[name] - shares[name] * whole)
    for name in by_remainder[: max(whole - sum(units.values()), 0)]:
        units[name] += 1
    return {name: n / whole for name, n in units.items() if n}
