"""How fast is a piece of work? Processor time, so that a busy machine disturbs less."""

from __future__ import annotations

from statistics import median
from time import process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 15


def rate(work: Callable[[], object], n: int) -> float:
    """Pieces of work a second, of ``n`` done at once, median over the repeats."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = process_time()
        work()
        seconds.append(process_time() - start)
    return n / median(seconds)
