"""Outputs of the sampling jobs of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def longest_samples(outputs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the longest sample of each stream by stream.

    A composition that was extended has several samples; each starts with the previous one.

    Parameters
    ----------
    outputs
        Documents with the fields ``stream``, ``tried`` and ``requested``.
    """
    ascending = sorted(outputs, key=lambda output: (output["tried"], output["requested"]))
    return {output["stream"]: output for output in ascending}
