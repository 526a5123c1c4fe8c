"""Evaluation of one candidate: energy, stability, band gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, Maker, OutputReference, Response, job

from flows.band_gap import BandGapMaker, GpawBandGapMaker
from flows.energy import EnergyMaker, PotentialEnergyMaker, check_references
from flows.naming import formula_of, name_by_content
from flows.proposals import as_proposal
from flows.routing import TOLERANT, mark, route
from gan_htvs.campaign.model import Thresholds
from gan_htvs.core.candidate import Proposal, RelaxedStructure, Screened, Verdict
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.stages import Stage, Step
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.thermodynamics.assessment import (
    assess,
    check_relaxation,
    decide,
    qualifies_for_band_gap,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from gan_htvs.campaign.routing import RoutingSettings
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.thermodynamics.hull import ReferenceSet


@dataclass
class StabilityMaker(Maker):
    """Assess a relaxed structure and, if it is stable enough, compute its band gap.

    Parameters
    ----------
    name
        Name of the job, before the formula.
    band_gap_maker
        Computes the band gap of structures that pass the thresholds; None: no gaps are computed.
    thresholds
        Limits of the funnel, eV/atom and eV.
    pourbaix
        Aqueous conditions.
    geometry
        Limits for relaxed structures.
    accept_incomplete
        Whether a gap without one of its magnetic orderings passes the thresholds.
    routing
        Worker categories of the band-gap jobs, whose uuids are then hashes of their content;
        None: no categories.

    Examples
    --------
    >>> from jobflow import Flow, run_locally
    >>> from flows.proposals import as_proposal
    >>> from flows.references import ReferencesMaker
    >>> from gan_htvs.core.candidate import RelaxedStructure
    >>> from pymatgen.core import Lattice, Structure
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> relaxed = RelaxedStructure(
    ...     structure=magnesia,
    ...     energy_per_atom=-6.2,
    ...     level_of_theory="CHGNet-0.3.0",
    ...     converged=True,
    ... )
    >>> references = ReferencesMaker().make(["Mg", "O"])
    >>> maker = StabilityMaker(band_gap_maker=None)
    >>> assessing = maker.make(as_proposal(magnesia), relaxed, references.output)
    >>> outputs = run_locally(Flow([references, assessing]), log=False)
    >>> outputs[assessing.uuid][1].output.reason
    'energy above hull 0.113 > 0.08 eV/atom'
    """

    name: str = "stability"
    band_gap_maker: BandGapMaker | None = field(default_factory=GpawBandGapMaker)
    thresholds: Thresholds = field(default_factory=Thresholds)
    pourbaix: PourbaixSettings = field(default_factory=PourbaixSettings)
    geometry: GeometryLimits = field(default_factory=GeometryLimits)
    accept_incomplete: bool = False
    routing: RoutingSettings | None = None

    def make(
        self,
        proposal: Proposal,
        relaxed: RelaxedStructure | OutputReference,
        references: ReferenceSet | OutputReference,
    ) -> Job:
        """Make the job of one candidate.

        Parameters
        ----------
        proposal
            The structure before relaxation, with its provenance.
        relaxed
            Output of an :class:`~flows.energy.EnergyMaker`.
        references
            Reference phases of the same level of theory.

        Returns
        -------
        A job whose output is a :class:`~gan_htvs.core.candidate.Verdict`, with the band gap if one
        was computed.
        """
        assess_job = self.assess(proposal, relaxed, references)
        assess_job.update_metadata({"candidate_id": proposal.candidate_id}, dynamic=True)
        name = f"{self.name} {formula_of(proposal.structure)}"
        return mark(assess_job, Step.GATE, "other", name)

    @job(config=TOLERANT)
    def assess(
        self,
        proposal: Proposal,
        relaxed: RelaxedStructure | CalculationFailure | None,
        references: ReferenceSet | None,
    ) -> Response[Verdict]:
        """Compute energy above hull and Pourbaix decomposition energy, and decide the stage.

        The geometry is checked first, because energies of unphysical geometries are meaningless.
        """
        verdict = Verdict(
            **dict(proposal),
            stage=Stage.FAILED,
            references=references and references.content_hash,
        )
        if isinstance(relaxed, CalculationFailure):
            verdict.reason, verdict.failure = relaxed.message, relaxed
        elif relaxed is None or references is None:
            missing = "energy calculation" if relaxed is None else "reference phases"
            verdict.reason = f"no result of the {missing}"
        else:
            verdict.relaxed = relaxed
            self._set_stability(verdict, relaxed, references)
        if verdict.relaxed is None or verdict.assessment is None or self.band_gap_maker is None:
            return Response(output=verdict)
        gap_jobs = self.band_gap_jobs(verdict.relaxed)
        verdict.band_gap_job = gap_jobs.output.uuid
        if not qualifies_for_band_gap(verdict.assessment, self.thresholds):
            return Response(output=verdict)
        return Response(output=verdict, replace=self._with_gap(gap_jobs, verdict))

    def _set_stability(
        self, verdict: Verdict, relaxed: RelaxedStructure, references: ReferenceSet
    ) -> None:
        """Set assessment, stage and reason of a verdict."""
        is_reference = verdict.origin.is_reference
        flaw = check_relaxation(relaxed, self.geometry, is_reference=is_reference)
        if flaw is not None:
            verdict.stage, verdict.reason = flaw
            return
        try:
            verdict.assessment = assess(relaxed, references, self.pourbaix)
        except UserError as error:
            verdict.reason = str(error)
            return
        verdict.stage, verdict.reason = decide(verdict.assessment, None, self.thresholds)

    def band_gap_jobs(
        self, relaxed: RelaxedStructure, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of the band gap of a relaxed structure.

        ``previous`` is an incomplete result to complete; uuids do not depend on it.
        """
        if self.band_gap_maker is None:
            raise ValueError("band gaps are switched off")
        gap_jobs = self.band_gap_maker.make(relaxed, previous)
        if self.routing is None:
            return gap_jobs
        return route(name_by_content(gap_jobs), self.routing)

    def _with_gap(self, gap_jobs: Job | Flow, verdict: Verdict) -> Flow:
        """Make the jobs that compute the gap and replace the running job."""
        conclude_job = mark(self.conclude(verdict, gap_jobs.output), Step.GATE, "other")
        if self.routing is not None:
            route(conclude_job, self.routing)
        running = CURRENT_JOB.job
        conclude_job.set_uuid(running.uuid)
        conclude_job.index = running.index + 1
        conclude_job.name = running.name
        return Flow([gap_jobs, conclude_job], name=f"band gap {verdict.candidate_id}")

    @job(config=TOLERANT)
    def conclude(self, verdict: Verdict, band_gap: BandGapResult | None) -> Verdict:
        """Decide the stage again, with the band gap."""
        if band_gap is None or verdict.assessment is None:
            return verdict
        stage, reason = decide(
            verdict.assessment,
            band_gap,
            self.thresholds,
            accept_incomplete=self.accept_incomplete,
        )
        return verdict.model_copy(update={"band_gap": band_gap, "stage": stage, "reason": reason})


@dataclass
class CandidateMaker(Maker):
    """Evaluate one structure: energy, hull, Pourbaix diagram, band gap.

    Parameters
    ----------
    name
        Name of the flow, before the formula.
    energy_maker
        Relaxes and computes the energy.
    stability_maker
        Assesses the stability, and computes the band gap of stable structures.

    Examples
    --------
    >>> from jobflow import Flow, run_locally
    >>> from pymatgen.core import Lattice, Structure
    >>> from flows.references import ReferencesMaker
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> references = ReferencesMaker().make(["Mg", "O"])
    >>> maker = CandidateMaker(stability_maker=StabilityMaker(band_gap_maker=None))
    >>> candidate = maker.make(magnesia, references.output)
    >>> outputs = run_locally(Flow([references, candidate]), log=False)
    >>> verdict = outputs[candidate.output.uuid][1].output
    >>> f"{verdict.assessment.energy_above_hull:z.3f}"
    '0.000'
    """

    name: str = "candidate"
    energy_maker: EnergyMaker = field(default_factory=PotentialEnergyMaker)
    stability_maker: StabilityMaker = field(default_factory=StabilityMaker)

    def make(
        self,
        structure: Structure | Proposal,
        references: ReferenceSet | OutputReference,
    ) -> Flow:
        """Make the flow of one structure.

        Parameters
        ----------
        structure
            An ordered crystal, or a proposal. A proposal that the prescreen relaxed at the level of
            theory of ``energy_maker`` is not relaxed again.
        references
            Reference phases at the level of theory of ``energy_maker``.

        Returns
        -------
        A flow whose output is a :class:`~gan_htvs.core.candidate.Verdict`.

        Raises
        ------
        UserError
            If the structure has no atoms or partly occupied sites, or the references are of
            another level of theory or lack one of its elements.
        """
        proposal = structure if isinstance(structure, Proposal) else as_proposal(structure)
        level = self.energy_maker.level_of_theory
        check_references(references, level, [proposal.structure.composition])
        relaxed: Any = proposal.relaxation and proposal.relaxation.relaxed
        jobs: list[Job | Flow] = []
        if relaxed is None or relaxed.level_of_theory != level:
            start = proposal.structure if relaxed is None else relaxed.structure
            energy_jobs = self.energy_maker.make(start)
            energy_jobs.update_metadata({"candidate_id": proposal.candidate_id}, dynamic=True)
            jobs.append(energy_jobs)
            relaxed = energy_jobs.output
        proposal = proposal.model_copy(update={"relaxation": None})
        assess_job = self.stability_maker.make(proposal, relaxed, references)
        formula = formula_of(proposal.structure)
        return Flow(
            [*jobs, assess_job],
            output=assess_job.output,
            name=f"{self.name} {formula} {proposal.candidate_id}",
        )

    def make_all(
        self, selection: Screened | OutputReference, references: ReferenceSet | OutputReference
    ) -> Job:
        """Make one job that is replaced by the flows of all survivors.

        Parameters
        ----------
        selection
            Output of a :class:`~flows.prescreen.SelectMaker`.
        references
            As for :meth:`make`.

        Returns
        -------
        A job whose output is a list of :class:`~gan_htvs.core.candidate.Verdict`.
        """
        check_references(references, self.energy_maker.level_of_theory)
        return mark(self.evaluate(selection, references), Step.SELECT, "other", "evaluate")

    @job
    def evaluate(self, selection: Screened, references: ReferenceSet) -> Response[list[Verdict]]:
        """Evaluate the survivors of a selection."""
        flows = [self.make(survivor, references) for survivor in selection.survivors]
        if not flows:
            return Response(output=[])
        return Response(replace=Flow(flows, output=[flow.output for flow in flows]))
