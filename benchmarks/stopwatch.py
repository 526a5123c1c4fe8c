"""Rates from processor time, which depends less on the load of the machine."""

from __future__ import annotations

from statistics import median
from time import process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 15


def rate(work: Callable[[], object], n: int) -> float:
    """Return items per second of processor time; ``work`` processes ``n`` items. Median."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = process_time()
        work()
        seconds.append(process_time() - start)
    return n / median(seconds)
