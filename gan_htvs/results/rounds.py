"""Counts of each round of sampling, measured by what is new against everything known before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gan_htvs.campaign.model import structures_in_round
from gan_htvs.core.stages import Step
from gan_htvs.results.funnel import crystal_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maggma.core import Store

    from gan_htvs.campaign.model import Campaign

Row = Mapping[str, Any]

ROUND_FIELDS = (
    *("candidate_id", "origin.round", "duplicate_of", "novelty.is_novel"),
    "prescreen.rejected_at",
)
"""Fields of a candidate document that the counts need."""


@dataclass(frozen=True)
class RoundCounts:
    """Counts of one round of sampling."""

    number: int
    n_training: int | None
    """Training structures of its generator; None if unknown."""
    n_sampled: int
    n_survivors: int
    """Structures that survived the prescreen."""
    n_new: int | None
    """Crystals among the survivors that match neither a training structure of the first round nor a
    reference phase nor a candidate of an earlier round; None if the first training set is
    unknown."""


@dataclass(frozen=True)
class Rounds:
    """The rounds of sampling of a campaign."""

    counts: list[RoundCounts] = field(default_factory=list)
    """Empty if the campaign has only one round."""
    n_skipped: int = 0
    """Structures that are not sampled because later rounds do not take place."""
    stopped: str | None = None
    """Sentence on why later rounds do not take place."""


def read_rounds(outputs: Store, campaign: Campaign, candidates: Sequence[Row]) -> Rounds:
    """Read the rounds of a campaign.

    Parameters
    ----------
    outputs
        Documents of the JobStore.
    campaign
        The campaign.
    candidates
        Candidates of the campaign with the fields :data:`ROUND_FIELDS`.
    """
    if campaign.generator.rounds == 1:
        return Rounds()
    trainings = outputs.query(
        {
            "metadata.campaign": campaign.name,
            "metadata.step": Step.TRAIN.value,
            "output.round": {"$exists": True},
        },
        ["output.round", "output.first", "output.dataset", "output.stopped"],
    )
    by_round = {document["output"]["round"]: document["output"] for document in trainings}
    sizes = {number: (by_round[number]["dataset"] or {}).get("structures") for number in by_round}
    first = outputs.query_one(
        {
            "metadata.step": Step.TRAIN.value,
            "output.sha256": {"$in": [output["first"] for output in by_round.values()]},
            "output.round": {"$exists": False},
        },
        ["output.dataset"],
    )
    if first is not None:
        sizes[1] = (first["output"]["dataset"] or {}).get("structures")
    stops = [number for number in sorted(by_round) if by_round[number]["stopped"] is not None]
    stopped, n_skipped = None, 0
    if stops:
        sampling, rounds = campaign.sampling, campaign.generator.rounds
        per_composition = (
            structures_in_round(sampling.structures_per_composition, rounds, number)
            for number in range(stops[0], rounds + 1)
        )
        n_skipped = sum(per_composition) * len(campaign.target_counts)
        stopped = (
            f"Sampling ended before round {stops[0]} of {rounds}: {by_round[stops[0]]['stopped']}."
        )
    return Rounds(count_rounds(candidates, sizes), n_skipped, stopped)


def count_rounds(candidates: Iterable[Row], sizes: Mapping[int, int | None]) -> list[RoundCounts]:
    """Count the candidates of each round; ``sizes`` are those of the training sets by round."""
    sampled: dict[int, int] = defaultdict(int)
    survivors: dict[int, int] = defaultdict(int)
    first_round: dict[str, int] = {}
    unknown: set[int] = set()
    for row in candidates:
        number = row["origin"].get("round")
        if number is None:
            continue
        sampled[number] += 1
        if (row.get("prescreen") or {}).get("rejected_at") is not None:
            continue
        survivors[number] += 1
        novelty = row.get("novelty")
        if novelty is not None and novelty.get("is_novel") is None:
            unknown.add(number)
        elif novelty is not None and novelty["is_novel"]:
            crystal = crystal_id(row)
            first_round[crystal] = min(number, first_round.get(crystal, number))
    return [
        RoundCounts(
            number,
            sizes.get(number),
            sampled[number],
            survivors[number],
            None if number in unknown else sum(one == number for one in first_round.values()),
        )
        for number in sorted(sampled)
    ]
