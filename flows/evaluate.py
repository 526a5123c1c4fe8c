"""One candidate: relax -> static -> stability gate -> band gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jobflow import Flow, Job, Maker, OutputReference, Response, job

from flows.engines.band_gap import band_gap_engine
from flows.engines.energy import energy_engine
from flows.engines.vasp import PRE_RELAXATION
from flows.steps import (
    READS_STORE_TOLERANT,
    Continuation,
    is_stored,
    label,
    stored_output,
    stored_outputs,
)
from gan_htvs.assessment import Judge
from gan_htvs.bandgap import missing_orders
from gan_htvs.candidate import Prescreened, Proposal, Relaxed, Stage, Step, Verdict
from gan_htvs.descent import Descent
from gan_htvs.engines import VASP_ENGINES
from gan_htvs.errors import CalculationError
from gan_htvs.identity import content_uuid

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from gan_htvs.campaign import Campaign


def energy_jobs(
    proposal: Proposal,
    campaign: Campaign,
    owner: str,
    source: OutputReference | None = None,
) -> dict[str, Job]:
    """Make the jobs of a structure's energy, with uuids that tell what they compute.

    Parameters
    ----------
    proposal
        The structure.
    campaign
        Its engine, and where its jobs run.
    owner
        Campaign that the jobs belong to, or ``SHARED``.
    source
        Where the proposal is stored; None: the jobs hold the structure itself.
    """
    engine = energy_engine(campaign.engines)
    structure = proposal.structure
    jobs = engine.calculations(
        structure,
        lambda name: content_uuid(name, structure, engine.content, owner),
        source and source.structure,
        is_reference=proposal.origin.is_reference,
    )
    by_vasp = campaign.engines.energy.name in VASP_ENGINES
    for name, energy_job in jobs.items():
        step = Step.STATIC if name.endswith("static") else Step.RELAX
        is_dft = by_vasp and not name.endswith(PRE_RELAXATION)
        category = campaign.routing.dft if is_dft else campaign.routing.potential
        label(energy_job, owner, step, category, candidate_id=proposal.candidate_id)
    return jobs


class Survivor(NamedTuple):
    """A structure that went through the prescreen: the verdict, and what it was relaxed to."""

    verdict: Prescreened
    structure: Structure


@dataclass
class EvaluateMaker(Maker):
    """Take one proposal through the funnel.

    Parameters
    ----------
    campaign
        Engines, thresholds and Pourbaix conditions.
    references
        uuid of the job that assembled the reference set.
    """

    campaign: Campaign
    references: str
    name: str = "evaluate"

    def make(
        self,
        proposal: Proposal,
        source: OutputReference | None = None,
        prescreened: Survivor | None = None,
    ) -> Flow:
        """Relax, compute the energy, then let the gate decide about a band gap.

        Parameters
        ----------
        proposal
            The structure.
        source
            Where it is stored; without it the jobs hold the proposal itself.
        prescreened
            What the prescreen made of it, which is where the relaxation starts.
        """
        jobs = self.jobs(proposal, source, prescreened)
        return Flow(list(jobs.values()), name=f"{self.name} {proposal.candidate_id}")

    def jobs(
        self,
        proposal: Proposal,
        source: OutputReference | None = None,
        prescreened: Survivor | None = None,
    ) -> dict[str, Job]:
        """Make the jobs of :meth:`make` by name, the gate last."""
        start, start_source = proposal, source
        if prescreened is not None:
            start = proposal.model_copy(update={"structure": prescreened.structure})
            start_source = OutputReference(str(prescreened.verdict.descent)).relaxed
        jobs = energy_jobs(start, self.campaign, self.campaign.name, start_source)
        gate_job = self.gate(
            proposal,
            {name: each.output for name, each in jobs.items()},
            source,
            prescreened and prescreened.verdict,
        )
        return {**jobs, "gate": gate_job}

    def gate_uuid(self, proposal: Proposal) -> str:
        """Name the gate job by the candidate and what it is compared with."""
        return content_uuid("gate", proposal.candidate_id, self.references)

    def gate(
        self,
        proposal: Proposal,
        energies: dict[str, Any] | Relaxed | OutputReference,
        source: OutputReference | None = None,
        prescreened: Prescreened | None = None,
    ) -> Job:
        """Make the gate job alone, for what the energy jobs of a proposal leave, or its energy."""
        gate_job = gate(self.campaign, self.references, source or proposal, energies, prescreened)
        gate_job.set_uuid(self.gate_uuid(proposal))
        gate_job.name = f"gate {proposal.structure.composition.reduced_formula}"
        label(
            gate_job,
            self.campaign.name,
            Step.GATE,
            self.campaign.routing.other,
            fans_out=True,
            candidate_id=proposal.candidate_id,
        )
        return gate_job


@job(config=READS_STORE_TOLERANT)
def gate(
    campaign: Campaign,
    references: str,
    proposal: Proposal,
    energies: dict[str, Any] | Relaxed | Descent,
    prescreened: Prescreened | None = None,
) -> Response[Verdict]:
    """Judge a relaxed structure and, if it deserves one, ask for its band gap.

    Geometry is checked first: a potential has holes, and the energies in them are not physics.
    """
    judge = Judge.of(campaign, stored_output(references))
    verdict = Verdict(
        candidate_id=proposal.candidate_id,
        origin=proposal.origin,
        prescreen=prescreened,
        stage=Stage.FAILED,
        references=references,
    )
    try:
        relaxed = verdict.relaxed = _relaxed(campaign, proposal, energies)
    except CalculationError as error:
        verdict.reason, verdict.failure = str(error), error.failure
        return Response(output=verdict)
    if (flaw := judge.soundness(relaxed, is_reference=proposal.origin.is_reference)) is not None:
        verdict.stage, verdict.reason = flaw
        return Response(output=verdict)

    verdict.assessment = judge.assess(relaxed)
    verdict.stage, verdict.reason = judge.decide(verdict.assessment, gap=None)
    gate_uuid = EvaluateMaker(campaign, references).gate_uuid(proposal)
    gap_jobs = band_gap_jobs(campaign, proposal.candidate_id, relaxed, gate_uuid)
    verdict.band_gap_job = gap_jobs[-1].uuid
    wanted = _unfinished(gap_jobs, relaxed) if judge.deserves_gap(verdict.assessment) else []
    # A detour: what waits for the end of the shard waits for its band gaps, too.
    return Response(output=verdict, detour=Continuation([gate_uuid], wanted) if wanted else None)


def _unfinished(gap_jobs: list[Job], relaxed: Relaxed) -> list[Job]:
    """Return the jobs of a band gap that is not stored, or lacks orders that have an energy now."""
    *calculations, gap_job = gap_jobs
    stored = stored_outputs([gap_job.uuid]).get(gap_job.uuid)
    if stored is None:
        return gap_jobs
    if relaxed.is_complete and missing_orders(stored.magnetic_orders) is not None:
        return [*(each for each in calculations if not is_stored(each.uuid)), gap_job]
    return []


def _relaxed(
    campaign: Campaign, proposal: Proposal, energies: dict[str, Any] | Relaxed | Descent
) -> Relaxed:
    if isinstance(energies, Relaxed):
        return energies
    if isinstance(energies, Descent):
        if energies.relaxed is None:
            raise CalculationError(str(energies.reason))
        return energies.relaxed
    return energy_engine(campaign.engines).summarise(proposal.structure, energies)


def band_gap_jobs(
    campaign: Campaign, candidate_id: str, relaxed: Relaxed, gate_uuid: str
) -> list[Job]:
    """Make the jobs for the band gap of a relaxed structure; the last one's output is the gap.

    They read the structure in the output of its gate.
    """
    engine = band_gap_engine(campaign.engines)
    formula = relaxed.structure.composition.reduced_formula
    jobs = engine.calculations(
        relaxed,
        lambda name: content_uuid(name, relaxed.structure, engine.content),
        OutputReference(gate_uuid).relaxed,
    )
    for name, gap_job in jobs.items():
        gap_job.name = f"{name} {formula}"
        # The gap of a hybrid is only read, and one that is switched off takes no node.
        is_light = Step(name) is Step.BAND_GAP and campaign.engines.band_gap.name != "gpaw"
        category = campaign.routing.other if is_light else campaign.routing.hybrid
        label(gap_job, campaign.name, Step(name), category, candidate_id=candidate_id)
    return list(jobs.values())
