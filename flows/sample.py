"""Sample one shard: (composition, number, seed) -> structures, each sent on to evaluation."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, OutputReference, Response, job
from maggma.utils import grouper
from pydantic import BaseModel, ConfigDict

from flows.evaluate import EvaluateMaker
from flows.notes import StoredNotes
from flows.prescreen import prescreen_job, proposal_uuid
from flows.steps import READS_STORE, Continuation, is_stored, label, store_outputs
from gan_htvs.candidate import Origin, Proposal, Step
from gan_htvs.generator.checkpoint import load
from gan_htvs.identity import content_hash, content_uuid
from gan_htvs.proposers import FINITE, ProposerName, make_proposer
from gan_htvs.proposers.sampling import sample

if TYPE_CHECKING:
    from gan_htvs.campaign import Campaign


class Shard(BaseModel):
    """The unit of work: a few dozen structures of one composition from one proposer."""

    model_config = ConfigDict(frozen=True)

    proposer: ProposerName
    composition: str
    n_structures: int
    seed: int

    def stream(self, campaign: Campaign) -> str:
        """Content hash of everything that decides the sequence of structures.

        How many of them are taken is left out: a longer shard begins with the same candidates.
        """
        made_of = (
            campaign.training_key
            if self.proposer is ProposerName.GAN
            else (campaign.chemical_system, campaign.oxidation_states)
        )
        return content_hash(
            "shard", campaign.name, self.proposer, made_of, self.composition, self.seed
        )


def shards(campaign: Campaign) -> list[Shard]:
    """Cut a campaign into shards, the same way every time.

    Asking for more structures of a composition later adds shards and lengthens the last one. A
    proposer with one fixed list per composition gets one shard for it, whatever ``shard_size``.
    """
    sampling = campaign.sampling
    wanted = sampling.structures_per_composition
    return [
        Shard(
            proposer=proposer,
            composition=campaign.chemical_system.formula(counts),
            n_structures=min(size, wanted - start),
            seed=sampling.seed + number,
        )
        for counts in campaign.target_counts
        for proposer in sampling.proposers
        for size in [wanted if proposer in FINITE else sampling.shard_size]
        for number, start in enumerate(range(0, wanted, size))
    ]


def shard_uuid(campaign: Campaign, shard: Shard) -> str:
    """Name the job of a shard by what it samples."""
    bound = campaign.sampling.max_tries_per_structure
    return content_uuid("sample", shard.stream(campaign), shard.n_structures, bound)


def shard_job(campaign: Campaign, shard: Shard, training: str | None, references: str) -> Job:
    """Make the job of one shard from the uuids of the reference job and, for gan, the training."""
    generates = shard.proposer is ProposerName.GAN
    trained = OutputReference(training) if generates else None
    sampling = sample_shard(campaign, shard, trained, references)
    sampling.set_uuid(shard_uuid(campaign, shard))
    sampling.name = f"sample {shard.composition} ({shard.proposer})"
    category = campaign.routing.generate if generates else campaign.routing.other
    label(sampling, campaign.name, Step.PROPOSE, category, fans_out=True)
    return sampling


@job(config=READS_STORE)
def sample_shard(
    campaign: Campaign, shard: Shard, training: dict[str, Any] | None, references: str
) -> Response[dict[str, Any]]:
    """Propose, push overlaps apart, check; then fan out one evaluation per structure."""
    system = campaign.chemical_system
    checkpoint = trained = None
    if training is not None:
        checkpoint = training["sha256"]
        weights = base64.b64decode(training["weights"])
        trained = load(weights, expected_sha256=checkpoint, system=system)
    sampled = sample(
        make_proposer(shard.proposer, system, campaign.oxidation_states, trained),
        system.counts(shard.composition),
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
                proposer=shard.proposer,
                requested_composition=shard.composition,
                index=index,
                shard=stream,
                checkpoint=checkpoint,
                seed=shard.seed,
                max_displacement=moved,
                is_remade=is_remade,
            ),
        )
        for index, structure, moved, is_remade in zip(
            sampled.indices,
            sampled.structures,
            sampled.max_displacement,
            sampled.is_remade,
            strict=True,
        )
    ]
    evaluate = EvaluateMaker(campaign, references)
    gates = {evaluate.gate_uuid(proposal): proposal for proposal in proposals}
    mine = StoredNotes(campaign.name).send(shard_uuid(campaign, shard), stream, gates)
    missing = {
        proposal_uuid(proposal.candidate_id): proposal
        for gate, proposal in gates.items()
        if gate in mine and not is_stored(gate)
    }
    store_outputs(missing, campaign=campaign.name, note="proposal")
    evaluations: list[Job | Flow] = []
    if campaign.prescreen is None:
        evaluations += [
            evaluate.make(proposal, OutputReference(uuid)) for uuid, proposal in missing.items()
        ]
    else:
        # The one shard of a list that ends may be much longer than others.
        evaluations += [
            prescreen_job(campaign, references, stream, pack)
            for pack in grouper(missing.values(), campaign.sampling.shard_size)
        ]
    continuation = Continuation(missing, evaluations, name=f"evaluate {shard.composition}")
    return Response(
        output={
            "proposals": proposals,
            "stream": stream,
            "composition": shard.composition,
            **sampled.report(),
        },
        # A detour: the next shard waits for the evaluations of this one.
        detour=continuation if evaluations else None,
    )
