"""Sample one shard: (composition, number, seed) -> structures, each sent on to evaluation."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, OutputReference, Response, job
from pydantic import BaseModel, ConfigDict

from flows.evaluate import EvaluateMaker
from flows.steps import READS_STORE, is_stored, label
from gan_htvs.candidate import Origin, Proposal, Step
from gan_htvs.generator.checkpoint import load
from gan_htvs.generator.sampling import sample_composition
from gan_htvs.identity import content_hash, content_uuid

if TYPE_CHECKING:
    from gan_htvs.campaign import Campaign


class Shard(BaseModel):
    """The unit of work: a few dozen structures of one composition, independent of all others."""

    model_config = ConfigDict(frozen=True)

    composition: str
    n_structures: int
    seed: int

    def stream(self, campaign: Campaign) -> str:
        """Content hash of everything that decides the sequence of structures.

        How many of them are taken is left out: a longer shard begins with the same candidates.
        """
        return content_hash(
            "shard", campaign.name, campaign.training_key, self.composition, self.seed
        )


def shards(campaign: Campaign) -> list[Shard]:
    """Cut a campaign into shards, the same way every time.

    Asking for more structures of a composition later adds shards and lengthens the last one.
    """
    sampling = campaign.sampling
    wanted, size = sampling.structures_per_composition, sampling.shard_size
    return [
        Shard(
            composition=campaign.chemical_system.formula(counts),
            n_structures=min(size, wanted - start),
            seed=sampling.seed + number,
        )
        for counts in campaign.target_counts
        for number, start in enumerate(range(0, wanted, size))
    ]


def shard_job(campaign: Campaign, shard: Shard, training: str, references: str) -> Job:
    """Make the job of one shard from the uuids of the training and reference jobs."""
    sampling = sample_shard(campaign, shard, OutputReference(training), references)
    bound = campaign.sampling.max_tries_per_structure
    sampling.set_uuid(content_uuid("sample", shard.stream(campaign), shard.n_structures, bound))
    sampling.name = f"sample {shard.composition}"
    label(sampling, campaign.name, Step.PROPOSE)
    return sampling


@job(config=READS_STORE)
def sample_shard(
    campaign: Campaign, shard: Shard, training: dict[str, Any], references: str
) -> Response[dict[str, Any]]:
    """Sample, decode, push overlaps apart, check; then fan out one evaluation per structure."""
    trained = load(
        base64.b64decode(training["weights"]),
        expected_sha256=training["sha256"],
        system=campaign.chemical_system,
    )
    sampled = sample_composition(
        trained,
        campaign.chemical_system.counts(shard.composition),
        shard.n_structures,
        seed=shard.seed,
        max_tries_per_structure=campaign.sampling.max_tries_per_structure,
    )
    stream = shard.stream(campaign)
    proposals = [
        Proposal(
            candidate_id=content_hash(stream, index)[:16],
            structure=structure,
            origin=Origin(
                proposer="gan",
                requested_composition=shard.composition,
                index=index,
                shard=stream,
                checkpoint=training["sha256"],
                seed=shard.seed,
            ),
        )
        for index, structure in zip(sampled.indices, sampled.structures, strict=True)
    ]
    evaluate = EvaluateMaker(campaign, references)
    evaluations = [
        evaluate.make(proposal)
        for proposal in proposals
        if not is_stored(evaluate.gate_uuid(proposal))
    ]
    return Response(
        output={
            "proposals": proposals,
            "stream": stream,
            "composition": shard.composition,
            "requested": shard.n_structures,
            "tried": sampled.tried,
            "rejections": {reason.value: n for reason, n in sampled.reasons.items()},
        },
        addition=Flow(evaluations, name=f"evaluate {shard.composition}") if evaluations else None,
    )
