"""Counts, durations and moments in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

UNITS = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"))
"""Durations below so many seconds are told in a unit of so many seconds."""


def counted(n: int, what: str) -> str:
    """Tell how many there are: '1 job', '12,000 jobs'."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def span(duration: timedelta) -> str:
    """Tell a duration in one unit: '45 s', '12 min', '5 h', '3 d'."""
    seconds = duration.total_seconds()
    for limit, size, unit in UNITS:
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def clock(moment: datetime) -> str:
    """Tell a moment in the time of this machine: '2026-01-31 12:00 CET'."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
