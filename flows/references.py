"""Known phases: relaxed by the same engine as the candidates, once for all campaigns."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, Response, job

from flows.engines.energy import energy_engine
from flows.evaluate import EvaluateMaker, energy_jobs
from flows.steps import READS_STORE, SHARED, label, stored_output
from gan_htvs.candidate import KNOWN_PHASE, Origin, Proposal, Step
from gan_htvs.errors import CalculationError
from gan_htvs.identity import content_hash, content_uuid
from gan_htvs.thermodynamics.references import phases_of, reference_set

if TYPE_CHECKING:
    from collections.abc import Collection

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Relaxed
    from gan_htvs.thermodynamics.hull import ReferenceSet


def known_phases(campaign: Campaign) -> list[Proposal]:
    """Known phases to relax, as proposals that are never called generated.

    O2 is not among them: its energy is pinned.
    """
    return [
        Proposal(
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
        for index, phase in enumerate(phases_of(campaign))
        if phase.pinned_energy_per_atom is None
    ]


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
    energies = [energy_jobs(phase, campaign.engines.energy, SHARED) for phase in phases]
    assembly = assemble_references(
        campaign,
        phases,
        [relax.output for relax, _ in energies],
        [static.output for _, static in energies],
    )
    assembly.set_uuid(content_uuid("references", [static.uuid for _, static in energies]))
    label(assembly, assembly.uuid, Step.REFERENCES)
    missing = [each for pair in energies for each in pair if each.uuid not in done]
    for energy_job in missing:
        energy_job.update_metadata({"campaign": assembly.uuid}, dynamic=False)
    return Flow([*missing, assembly], output=assembly.output, name="known phases")


@job
def assemble_references(
    campaign: Campaign, phases: list[Proposal], relaxations: list[Any], statics: list[Any]
) -> ReferenceSet:
    """Collect the energies of the known phases into the fixed reference set of the gates."""
    engine = energy_engine(campaign.engines.energy)
    relaxed: dict[str, Relaxed | None] = {}
    for phase, relaxation, static in zip(phases, relaxations, statics, strict=True):
        with suppress(CalculationError):
            name = phase.origin.label or phase.candidate_id
            relaxed[name] = engine.summarise(phase.structure, relaxation, static)
    return reference_set(phases_of(campaign), relaxed, engine.level_of_theory)


def known_phases_job(campaign: Campaign, references: str) -> Job:
    """Make the job that sends the known phases through the gates, labelled as references."""
    proposing = propose_known_phases(campaign, references)
    proposing.set_uuid(content_uuid("propose known phases", campaign, references))
    label(proposing, campaign.name, Step.PROPOSE)
    return proposing


@job(config=READS_STORE)
def propose_known_phases(campaign: Campaign, references: str) -> Response[dict[str, Any]]:
    """Propose the known phases; their energies exist, so each goes straight to the gate."""
    campaign = campaign.for_references
    phases = known_phases(campaign)
    evaluate = EvaluateMaker(campaign, references)
    gates = []
    for phase in phases:
        relax, static = energy_jobs(phase, campaign.engines.energy, SHARED)
        gates.append(evaluate.gate(phase, stored_output(relax.uuid), stored_output(static.uuid)))
    return Response(output={"proposals": phases}, addition=Flow(gates, name="gate known phases"))
