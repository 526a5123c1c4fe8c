"""One candidate: relax -> static -> stability gate -> band gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, Maker, Response, job

from flows.engines.energy import energy_engine
from flows.engines.gpaw import compute_gap
from flows.steps import READS_STORE_TOLERANT, is_stored, label, stored_output
from gan_htvs.assessment import Judge
from gan_htvs.candidate import Proposal, Relaxed, Stage, Step, Verdict
from gan_htvs.errors import CalculationError
from gan_htvs.identity import content_uuid

if TYPE_CHECKING:
    from gan_htvs.bandgap import BandGapResult
    from gan_htvs.campaign import BandGapEngineSettings, Campaign, EnergyEngineSettings


def energy_jobs(
    proposal: Proposal, settings: EnergyEngineSettings, campaign: str
) -> tuple[Job, Job]:
    """Make the relaxation and the static job, named by what they compute."""
    engine = energy_engine(settings)
    relax = engine.relax(proposal.structure)
    relax.set_uuid(content_uuid("relax", proposal.structure, settings, campaign))
    static = engine.static(relax)
    static.set_uuid(content_uuid("static", proposal.structure, settings, campaign))
    for energy_job, step in ((relax, Step.RELAX), (static, Step.STATIC)):
        label(energy_job, campaign, step, candidate_id=proposal.candidate_id)
    return relax, static


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

    def make(self, proposal: Proposal) -> Flow:
        """Relax, compute the energy, then let the gate decide about a band gap."""
        relax, static = energy_jobs(proposal, self.campaign.engines.energy, self.campaign.name)
        gate_job = self.gate(proposal, relax.output, static.output)
        return Flow([relax, static, gate_job], name=f"{self.name} {proposal.candidate_id}")

    def gate_uuid(self, proposal: Proposal) -> str:
        """Name the gate job by the candidate and what it is compared with."""
        return content_uuid("gate", proposal.candidate_id, self.references)

    def gate(self, proposal: Proposal, relaxation: Any, static: Any) -> Job:
        """Make the gate job alone, for a proposal whose energies are known."""
        gate_job = gate(self.campaign, self.references, proposal, relaxation, static)
        gate_job.set_uuid(self.gate_uuid(proposal))
        gate_job.name = f"gate {proposal.structure.composition.reduced_formula}"
        label(gate_job, self.campaign.name, Step.GATE, candidate_id=proposal.candidate_id)
        return gate_job


@job(config=READS_STORE_TOLERANT)
def gate(
    campaign: Campaign,
    references: str,
    proposal: Proposal,
    relaxation: Any,
    static: Any,
) -> Response[Verdict]:
    """Judge a relaxed structure and, if it deserves one, ask for its band gap.

    Geometry is checked first: a potential has holes, and the energies in them are not physics.
    """
    judge = Judge.of(campaign, stored_output(references))
    verdict = Verdict(
        candidate_id=proposal.candidate_id,
        origin=proposal.origin,
        stage=Stage.FAILED,
        references=references,
    )
    try:
        engine = energy_engine(campaign.engines.energy)
        relaxed = verdict.relaxed = engine.summarise(proposal.structure, relaxation, static)
    except CalculationError as error:
        verdict.reason = str(error)
        return Response(output=verdict)
    if (flaw := judge.soundness(relaxed)) is not None:
        verdict.stage, verdict.reason = flaw
        return Response(output=verdict)

    verdict.assessment = judge.assess(relaxed)
    verdict.stage, verdict.reason = judge.decide(verdict.assessment, gap=None)
    gap_job = band_gap_job(campaign, proposal.candidate_id, relaxed)
    verdict.band_gap_job = gap_job.uuid
    wanted = judge.deserves_gap(verdict.assessment) and not is_stored(gap_job.uuid)
    return Response(output=verdict, addition=gap_job if wanted else None)


def band_gap_job(campaign: Campaign, candidate_id: str, relaxed: Relaxed) -> Job:
    """Make the band gap job of a relaxed structure, named by what it computes."""
    settings = campaign.engines.band_gap
    gap_job = band_gap(relaxed, settings)
    # On how many cores it is computed is not what is computed.
    content = settings.model_copy(update={"mpi_command": None})
    gap_job.set_uuid(content_uuid("band gap", relaxed.structure, content))
    gap_job.name = f"band gap {relaxed.structure.composition.reduced_formula}"
    label(gap_job, campaign.name, Step.BAND_GAP, candidate_id=candidate_id)
    return gap_job


@job
def band_gap(relaxed: Relaxed, settings: BandGapEngineSettings) -> BandGapResult:
    """Compute the band gap in a process of its own, in the directory of the job."""
    return compute_gap(relaxed.structure, settings, magmoms=relaxed.magmoms, workdir=".")
