"""What the samplers of a campaign's shards left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def longest_shards(outputs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keep of each stream of samples the output that goes furthest, by stream.

    A shard that was asked for more later holds all that the earlier one had. Outputs of known
    phases, which are of no stream, are left out.

    Parameters
    ----------
    outputs
        Documents with ``stream``, ``tried`` and ``requested``.
    """
    sampled = [output for output in outputs if "stream" in output]
    rising = sorted(sampled, key=lambda output: (output["tried"], output["requested"]))
    return {output["stream"]: output for output in rising}
