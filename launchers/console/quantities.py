"""Formatting of counts, durations and times."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

UNITS = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (inf, 86_400, "d"))
"""Upper limit of a duration, s; size of the unit, s; symbol of the unit."""


def counted(n: int, noun: str) -> str:
    """Return a count with its noun: '1 job', '12,000 jobs'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def span(duration: timedelta) -> str:
    """Return a duration in one unit: '45 s', '12 min', '5 h', '3 d'."""
    seconds = duration.total_seconds()
    size, unit = next((size, unit) for limit, size, unit in UNITS if seconds < limit)
    return f"{seconds / size:.0f} {unit}"


def clock(moment: datetime) -> str:
    """Return a time in the time zone of this machine: '2026-01-31 12:00 CET'."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
