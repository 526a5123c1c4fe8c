"""Prescreen one shard: interatomic potentials sift its structures, survivors are sent on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, OutputReference, Response, job

from flows.evaluate import EvaluateMaker, Survivor
from flows.notes import StoredNotes
from flows.steps import (
    READS_STORE,
    Continuation,
    is_stored,
    label,
    store_outputs,
    stored_output,
    stored_outputs,
)
from gan_htvs.candidate import Proposal, Stage, Step, Verdict
from gan_htvs.descent import Ending, relax_reference_phase
from gan_htvs.identity import content_uuid
from gan_htvs.potentials import module_of
from gan_htvs.prescreen.pack import Prescreen
from gan_htvs.processes import cores, spread
from gan_htvs.thermodynamics.corrections import level_of_theory
from gan_htvs.thermodynamics.references import phases_of, reference_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Prescreened, Relaxed
    from gan_htvs.descent import Descent
    from gan_htvs.engines import DescentSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet


def proposal_uuid(candidate_id: str) -> str:
    """Name the document that holds a proposal."""
    return content_uuid("proposal", candidate_id)


def reference_uuids(campaign: Campaign, references: str) -> tuple[str, str | None]:
    """Name the reference sets of the two potentials; the first may be that of the gates."""
    settings, engines = campaign.prescreening, campaign.engines
    first, second = settings.relaxing(engines), settings.confirming(engines)
    return (
        references if settings.decides_energy(engines) else _references_uuid(campaign, first),
        None if second is None else _references_uuid(campaign, second),
    )


def reference_jobs(campaign: Campaign, references: str) -> list[Job]:
    """Make the jobs that relax the known phases with the potentials of the prescreen."""
    if campaign.prescreen is None:
        return []
    settings, engines = campaign.prescreening, campaign.engines
    jobs = []
    for descent, uuid in zip(
        (settings.relaxing(engines), settings.confirming(engines)),
        reference_uuids(campaign, references),
        strict=True,
    ):
        if descent is None or uuid is None or uuid == references:
            continue
        relaxing = relax_known_phases(campaign, descent)
        relaxing.set_uuid(uuid)
        relaxing.name = f"known phases ({descent.name})"
        label(relaxing, uuid, Step.REFERENCES, campaign.routing.potential)
        jobs.append(relaxing)
    return jobs


def _references_uuid(campaign: Campaign, descent: DescentSettings) -> str:
    phases = [(phase.name, phase.structure) for phase in phases_of(campaign, by_potential=True)]
    return content_uuid("known phases by a potential", descent.for_references, phases)


@job(config=READS_STORE)
def relax_known_phases(campaign: Campaign, descent: DescentSettings) -> ReferenceSet:
    """Relax the known phases with one potential, all in this job, and make a reference set."""
    phases = phases_of(campaign, by_potential=True)
    patient = descent.for_references
    uuids = {
        phase.name: content_uuid("known phase", phase.structure, patient)
        for phase in phases
        if phase.pinned_energy_per_atom is None
    }
    free = {uuids[phase.name]: phase for phase in phases if phase.name in uuids}
    notes = StoredNotes(_references_uuid(campaign, descent))
    # Whoever runs this again after a failure has removed its cause, or hopes so.
    noted = notes.descents(free).items()
    outcomes: dict[str, Relaxed | str] = {
        uuid: found.relaxed
        for uuid, found in noted
        if found.ending is Ending.CONVERGED and found.relaxed is not None
    }
    work = {uuid: (free[uuid].structure, patient) for uuid in free if uuid not in outcomes}
    # All that later packs of this process need, too, which is imported once.
    modules = [module_of(each.name) for each in campaign.prescreening.potentials(campaign.engines)]
    for uuid, found in spread(relax_reference_phase, work, cores(), preload=modules):
        if found is None:
            outcomes[uuid] = "its process was killed twice, perhaps for lack of memory"
        else:
            outcomes[uuid] = found.relaxed or str(found.reason)
            notes.note(uuid, free[uuid].name, found)
    confirms = descent == campaign.prescreening.confirming(campaign.engines)
    return reference_set(
        phases,
        {name: outcomes[uuid] for name, uuid in uuids.items()},
        level_of_theory(descent.name, descent.arguments).label,
        potential_setting="prescreen.confirm" if confirms else "prescreen.potential",
        steps_setting=None if confirms else "prescreen.max_steps",
    )


def prescreen_job(
    campaign: Campaign, references: str, shard: str, proposals: Sequence[Proposal]
) -> Job:
    """Make the job that prescreens proposals, which are stored, under a name of their shard."""
    ids = [proposal.candidate_id for proposal in proposals]
    pack = prescreen_pack(campaign, references, ids)
    pack.set_uuid(content_uuid("prescreen", shard, ids, references, campaign.prescreening))
    formula = proposals[0].structure.composition.reduced_formula
    pack.name = f"prescreen {len(ids)} of {formula}"
    label(pack, campaign.name, Step.PRESCREEN, campaign.routing.potential, fans_out=True)
    return pack


@job(config=READS_STORE)
def prescreen_pack(
    campaign: Campaign, references: str, candidate_ids: list[str]
) -> Response[dict[str, Any]]:
    """Sift a pack; what leaves gets its verdict here, what survives goes on to the gate."""
    uuids = [proposal_uuid(candidate_id) for candidate_id in candidate_ids]
    stored = stored_outputs(uuids)
    proposals = [Proposal.model_validate(stored[uuid]) for uuid in uuids]
    first, second = reference_uuids(campaign, references)
    confirming_references = None if second is None else stored_output(second)
    rules = Prescreen.of(campaign, stored_output(first), confirming_references)
    notes = StoredNotes(campaign.name)
    verdicts = rules.run(proposals, notes, n_processes=cores())

    evaluate = EvaluateMaker(campaign, references)
    # A pack that runs again may find its candidates judged.
    judged = [
        (proposal, verdict)
        for proposal, verdict in zip(proposals, verdicts, strict=True)
        if not is_stored(evaluate.gate_uuid(proposal))
    ]
    store_outputs(
        {
            evaluate.gate_uuid(proposal): _left(proposal, verdict, references)
            for proposal, verdict in judged
            if not verdict.survives
        },
        campaign=campaign.name,
        step=Step.GATE.value,
    )
    survivors = [(proposal, verdict) for proposal, verdict in judged if verdict.survives]
    descents = notes.descents([str(verdict.descent) for _, verdict in survivors])
    flow = Continuation(
        [*uuids, *descents],
        [
            _evaluation(evaluate, proposal, verdict, descents[str(verdict.descent)])
            for proposal, verdict in survivors
        ],
        name="evaluate survivors",
    )
    counts = Counter(str(verdict.hurdle or "survived") for verdict in verdicts)
    return Response(
        output={"verdicts": verdicts, "counts": dict(counts)},
        detour=flow if survivors else None,
    )


def _left(proposal: Proposal, prescreened: Prescreened, references: str) -> Verdict:
    return Verdict(
        candidate_id=proposal.candidate_id,
        origin=proposal.origin,
        prescreen=prescreened,
        stage=Stage.REJECTED,
        reason=f"{prescreened.hurdle}: {prescreened.reason}",
        references=references,
    )


def _evaluation(
    evaluate: EvaluateMaker, proposal: Proposal, verdict: Prescreened, descent: Descent
) -> Job | Flow:
    """Send a survivor to the gate, or first to the engine that computes its energy."""
    source = OutputReference(proposal_uuid(proposal.candidate_id))
    campaign = evaluate.campaign
    if campaign.prescreening.decides_energy(campaign.engines) or descent.relaxed is None:
        return evaluate.gate(proposal, OutputReference(str(verdict.descent)), source, verdict)
    return evaluate.make(proposal, source, Survivor(verdict, descent.relaxed.structure))
