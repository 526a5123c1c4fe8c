"""Known phases: relaxed by the same engine as the candidates, once for all campaigns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, OutputReference, Response, job

from flows.engines.energy import energy_engine
from flows.evaluate import EvaluateMaker, energy_jobs
from flows.routing import prefer
from flows.steps import READS_STORE, SHARED, Continuation, label, stored_output
from gan_htvs.candidate import KNOWN_PHASE, Origin, Proposal, Relaxed, Step
from gan_htvs.errors import CalculationError, UserError
from gan_htvs.identity import content_hash, content_uuid
from gan_htvs.thermodynamics.references import phases_of, reference_set

if TYPE_CHECKING:
    from collections.abc import Collection

    from gan_htvs.campaign import Campaign
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase


def known_phases(campaign: Campaign) -> list[Proposal]:
    """Known phases to relax, as proposals that are never called generated.

    O2 is not among them: its energy is pinned.
    """
    return [
        _proposal(campaign, index, phase)
        for index, phase in enumerate(phases_of(campaign))
        if phase.pinned_energy_per_atom is None
    ]


def published_phases(campaign: Campaign) -> list[tuple[Proposal, Relaxed]]:
    """Known phases whose energies are taken as they were published, with those energies."""
    level = energy_engine(campaign.engines).level_of_theory
    return [
        (
            _proposal(campaign, index, phase),
            Relaxed(
                structure=phase.structure,
                energy_per_atom=phase.pinned_energy_per_atom,
                level_of_theory=level,
                converged=True,
            ),
        )
        for index, phase in enumerate(phases_of(campaign))
        if phase.pinned_energy_per_atom is not None and phase.published_energy_per_atom is not None
    ]


def _proposal(campaign: Campaign, index: int, phase: ReferencePhase) -> Proposal:
    return Proposal(
        candidate_id=content_hash("known phase", campaign.name, phase.name)[:16],
        structure=phase.structure,
        origin=Origin(
            proposer=KNOWN_PHASE,
            requested_composition=phase.structure.composition.formula.replace(" ", ""),
            index=index,
            label=phase.name,
            source=phase.source,
        ),
    )


def reference_flow(campaign: Campaign, *, done: Collection[str] = ()) -> Flow:
    """Relax every known phase and assemble the reference set.

    Job uuids are made from phase and engine, so another campaign with the same engine finds the
    work done. The last job of the flow is the assembly.

    Parameters
    ----------
    campaign
        Chemical system and energy engine.
    done
        uuids of jobs whose output is stored already; they are left out.
    """
    campaign = campaign.for_references
    phases = known_phases(campaign)
    energies = [energy_jobs(phase, campaign, SHARED) for phase in phases]
    assembly = assemble_references(
        campaign,
        phases,
        [{name: each.output for name, each in jobs.items()} for jobs in energies],
    )
    statics = [
        each.uuid for jobs in energies for name, each in jobs.items() if name.endswith("static")
    ]
    published = [
        (phase.origin.label, relaxed.energy_per_atom)
        for phase, relaxed in published_phases(campaign)
    ]
    assembly.set_uuid(content_uuid("references", statics, *published))
    label(assembly, assembly.uuid, Step.REFERENCES, campaign.routing.other)
    missing = [each for jobs in energies for each in jobs.values() if each.uuid not in done]
    for energy_job in missing:
        energy_job.update_metadata({"campaign": assembly.uuid}, dynamic=False)
        # Every candidate waits for them.
        prefer(energy_job, Step.REFERENCES)
    return Flow([*missing, assembly], output=assembly.output, name="known phases")


@job
def assemble_references(
    campaign: Campaign, phases: list[Proposal], energies: list[dict[str, Any]]
) -> ReferenceSet:
    """Collect the energies of the known phases into the fixed reference set of the gates."""
    engine = energy_engine(campaign.engines)
    relaxed: dict[str, Relaxed | str] = {}
    for phase, outputs in zip(phases, energies, strict=True):
        name = phase.origin.label or phase.candidate_id
        try:
            relaxed[name] = engine.summarise(phase.structure, outputs)
        except CalculationError as error:
            raise UserError(f"reference phase {name}: {error}") from error
    return reference_set(phases_of(campaign), relaxed, engine.level_of_theory)


def known_phases_uuid(campaign: Campaign, references: str) -> str:
    """Name the job that judges the known phases by what the gates read of the campaign."""
    read = (campaign.thresholds, campaign.pourbaix, campaign.engines)
    return content_uuid("propose known phases", campaign.name, references, *read)


def known_phases_job(campaign: Campaign, references: str) -> Job:
    """Make the job that sends the known phases through the gates, labelled as references."""
    proposing = propose_known_phases(campaign, references)
    proposing.set_uuid(known_phases_uuid(campaign, references))
    label(proposing, campaign.name, Step.PROPOSE, campaign.routing.other, fans_out=True)
    return proposing


@job(config=READS_STORE)
def propose_known_phases(campaign: Campaign, references: str) -> Response[dict[str, Any]]:
    """Propose the known phases; their energies exist, so each goes straight to the gate."""
    uuid = known_phases_uuid(campaign, references)
    campaign = campaign.for_references
    engine = energy_engine(campaign.engines)
    found = published_phases(campaign)
    for phase in known_phases(campaign):
        jobs = energy_jobs(phase, campaign, SHARED)
        outputs = {name: stored_output(each.uuid) for name, each in jobs.items()}
        found.append((phase, engine.summarise(phase.structure, outputs)))
    evaluate = EvaluateMaker(campaign, references)
    here = OutputReference(uuid)
    gates = [
        evaluate.gate(phase, here["relaxed"][number], here["proposals"][number])
        for number, (phase, _) in enumerate(found)
    ]
    return Response(
        output={
            "proposals": [phase for phase, _ in found],
            "relaxed": [relaxed for _, relaxed in found],
        },
        addition=Continuation([uuid], gates, name="gate known phases"),
    )
