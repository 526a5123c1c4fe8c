"""Evaluation of one candidate: energy, stability, and the properties of the stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, Maker, OutputReference, Response, job

from flows.band_gap import BandGapMaker, GpawBandGapMaker
from flows.energy import EnergyMaker, PotentialEnergyMaker, check_references
from flows.naming import formula_of, name_by_content
from flows.properties import PropertyMaker
from flows.proposals import as_proposal
from flows.routing import TOLERANT, mark, route
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.candidate import Proposal, RelaxedStructure, Screened, Verdict
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.funnel_stages import Decision, FunnelSettings
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.properties import BAND_GAP, PropertyResult
from gan_htvs.core.stages import Stage, Step
from gan_htvs.structures.descriptors import describe
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.structures.symmetry import SYMPREC, symmetry_of
from gan_htvs.thermodynamics.assessment import assess, check_relaxation, decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure

    from gan_htvs.campaign.routing import RoutingSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet


@dataclass
class StabilityMaker(Maker):
    """Assess a relaxed structure, and compute the properties that the stages of the funnel need.

    Parameters
    ----------
    name
        Name of the job, before the formula.
    band_gap_maker
        Computes band gaps; None: no gaps are computed.
    funnel
        Stages, and the user's properties.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`, eV/atom.
    pourbaix
        Aqueous conditions; None: no Pourbaix decomposition energies are computed.
    geometry
        Limits for relaxed structures.
    accept_incomplete
        Whether a gap without one of its magnetic orderings passes the stages of the gap.
    routing
        Worker categories of the jobs of properties, whose uuids are then hashes of their content;
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
    funnel: FunnelSettings = field(default_factory=FunnelSettings)
    lowest_decomposition_energy: float | None = None
    pourbaix: PourbaixSettings | None = field(default_factory=PourbaixSettings)
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
        A job whose output is a :class:`~gan_htvs.core.candidate.Verdict`, with the properties that
        were computed.
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
        """Compute the stability, and decide the stage; replace the job if a property is missing.

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
            verdict.relaxed_hash = content_hash(relaxed.structure)
            self._set_assessment(verdict, relaxed, references)
        if verdict.assessment is None:
            return Response(output=verdict)
        gap_jobs = self._jobs_of(BAND_GAP, verdict)
        verdict.band_gap_job = gap_jobs and gap_jobs.output.uuid
        return self._next(verdict, {BAND_GAP: gap_jobs})

    def _set_assessment(
        self, verdict: Verdict, relaxed: RelaxedStructure, references: ReferenceSet
    ) -> None:
        """Set the assessment of a verdict; without one, the stage and the reason."""
        is_reference = verdict.origin.is_reference
        flaw = check_relaxation(relaxed, self.geometry, is_reference=is_reference)
        if flaw is not None:
            verdict.stage, verdict.reason = flaw
            return
        try:
            verdict.assessment = assess(relaxed, references, self.pourbaix)
        except UserError as error:
            verdict.reason = str(error)

    @job(config=TOLERANT)
    def advance(
        self, verdict: Verdict, name: str, result: BandGapResult | PropertyResult | None
    ) -> Response[Verdict]:
        """Add a computed property, and decide the stage again; replace the job for the next one."""
        match result:
            case BandGapResult():
                verdict.band_gap = result
            case PropertyResult():
                verdict.properties[name] = result
            case _:
                return Response(output=verdict)
        return self._next(verdict)

    def _next(
        self, verdict: Verdict, jobs: Mapping[str, Job | Flow | None] | None = None
    ) -> Response[Verdict]:
        """Decide the stage of a verdict; replace the running job if the next stage needs jobs.

        ``jobs`` are those that have been made already, by property.
        """
        decision = self._decide(verdict)
        verdict.stage, verdict.reason = decision.stage, decision.reason
        name = decision.missing
        is_computed = name in verdict.properties or (name == BAND_GAP and verdict.band_gap)
        if name is None or is_computed:
            return Response(output=verdict)
        property_jobs = (jobs or {}).get(name) or self._jobs_of(name, verdict)
        if property_jobs is None:
            return Response(output=verdict)
        return Response(output=verdict, replace=self._then_advance(property_jobs, verdict, name))

    def _decide(self, verdict: Verdict) -> Decision:
        assessment, relaxed, gap = verdict.assessment, verdict.relaxed, verdict.band_gap
        if assessment is None or relaxed is None:
            return Decision(verdict.stage, verdict.reason)
        is_accepted = gap is not None and (gap.is_complete or self.accept_incomplete)
        document = describe(relaxed.structure, relaxed.magmoms) | {
            "band_gap": gap.band_gap if gap and is_accepted else None,
            "oxidation_states": relaxed.oxidation_states and dict(relaxed.oxidation_states),
            "properties": {name: dict(result) for name, result in verdict.properties.items()},
        }
        if self.funnel.uses("space_group_number"):
            document["symmetry"] = symmetry_of(relaxed.structure, SYMPREC).model_dump()
        reasons = {name: result.reason for name, result in verdict.properties.items()}
        reasons[BAND_GAP] = gap.shortcoming if gap else None
        return decide(
            assessment,
            self.funnel,
            document,
            lowest_decomposition_energy=self.lowest_decomposition_energy,
            reasons=reasons,
        )

    def _jobs_of(self, name: str, verdict: Verdict) -> Job | Flow | None:
        """Make the jobs of a property; None if no job computes it."""
        if verdict.relaxed is None:
            return None
        if name == BAND_GAP:
            return self.band_gap_jobs(verdict.relaxed) if self.band_gap_maker else None
        if name in self.funnel.properties:
            return self.property_jobs(name, verdict)
        return None

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

    def property_jobs(self, name: str, verdict: Verdict) -> Job | Flow:
        """Make the jobs of a user's property of the relaxed structure of a verdict."""
        if verdict.relaxed is None or verdict.relaxed_hash is None:
            raise ValueError(f"{verdict.candidate_id} has no relaxed structure")
        maker = PropertyMaker(name=name, settings=self.funnel.properties[name])
        jobs = maker.make(verdict.relaxed.structure)
        if self.routing is not None:
            route(name_by_content(jobs), self.routing)
        # Builders find the result by this uuid.
        last = jobs if isinstance(jobs, Job) else jobs.jobs[-1]
        last.set_uuid(maker.settings.job_uuid(verdict.relaxed_hash))
        if isinstance(jobs, Flow):
            jobs.output = last.output
        return jobs

    def _then_advance(self, property_jobs: Job | Flow, verdict: Verdict, name: str) -> Flow:
        """Make the jobs that compute a property and replace the running job."""
        advance_job = mark(self.advance(verdict, name, property_jobs.output), Step.GATE, "other")
        if self.routing is not None:
            route(advance_job, self.routing)
        running = CURRENT_JOB.job
        advance_job.set_uuid(running.uuid)
        advance_job.index = running.index + 1
        advance_job.name = running.name
        label = self.funnel.quantity(name).label
        return Flow([property_jobs, advance_job], name=f"{label} {verdict.candidate_id}")


@dataclass
class CandidateMaker(Maker):
    """Evaluate one structure: energy, hull, Pourbaix diagram, band gap, the user's properties.

    Parameters
    ----------
    name
        Name of the flow, before the formula.
    energy_maker
        Relaxes and computes the energy.
    stability_maker
        Assesses the stability, and computes the properties that further stages need.

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
