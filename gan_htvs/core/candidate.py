"""Documents of candidates: structure, provenance, results and stage."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, computed_field
from pymatgen.core import Structure

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult, missing_orderings
from gan_htvs.core.document import Document
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.oxidation import OxidationStates, oxidation_states
from gan_htvs.core.pourbaix_stability import PourbaixStability
from gan_htvs.core.properties import PropertyResult
from gan_htvs.core.stages import REFERENCE_PHASE, ProposerName, ScreeningStep

STAGE_DESCRIPTION = (
    "generated, relaxed, rejected or failed, or the last stage of the funnel that it passes"
)


def volume_change(start: Structure, end: Structure) -> float:
    """Return the relative change of the volume per atom; cell sizes may differ."""
    return (end.volume / len(end)) / (start.volume / len(start)) - 1


class Origin(Document):
    """Provenance of a structure."""

    proposer: ProposerName | Literal["reference_phase", "user"]
    requested_composition: str = Field(description="requested cell formula")
    index: int = Field(description="number of the raw sample, or of the reference phase")
    round: int | None = Field(
        None, description="round of sampling, from 1; None: not sampled, see `generator.rounds`"
    )
    stream: str | None = Field(
        None, description="content hash of the settings that determine the sequence of samples"
    )
    checkpoint: str | None = Field(None, description="sha256 of the generator")
    seed: int | None = None
    max_displacement: float | None = Field(
        None, description="largest displacement of an atom by the overlap removal, A"
    )
    is_remade: bool | None = Field(
        None, description="whether the overlap removal replaced all coordinates of the raw sample"
    )
    label: str | None = Field(None, description="name of a reference phase or file")
    source: str | None = Field(None, description="literature of a reference phase")

    @property
    def is_reference(self) -> bool:
        """Whether the structure is a reference phase, not a generated one."""
        return self.proposer == REFERENCE_PHASE


class Symmetrization(Document):
    """How a relaxed structure was replaced by a symmetrized copy."""

    tolerance: float = Field(description="tolerance of the symmetry, A")
    max_displacement: float = Field(
        description="largest displacement of an atom relative to the cell, A"
    )
    n_steps: int = Field(description="relaxation steps of the copy")
    energy_change: float = Field(description="eV/atom")


class RelaxedStructure(Document):
    """A relaxed structure with its energy."""

    structure: Structure
    energy_per_atom: float = Field(
        description="static energy of the relaxed structure with corrections, eV/atom"
    )
    correction_per_atom: float = Field(0.0, description="corrections within that energy, eV/atom")
    level_of_theory: str
    converged: bool
    magmoms: list[float] | None = Field(None, description="moment of each site, Bohr magnetons")
    n_steps: int | None = Field(
        None, description="relaxation steps, with those of a symmetrized copy that replaced it"
    )
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relative, per atom")
    symmetrization: Symmetrization | None = Field(
        None, description="None: no symmetrized copy of at most this energy was found"
    )
    pre_relaxation_steps: int | None = Field(
        None, description="relaxation steps of an interatomic potential before VASP"
    )
    magnetic_orders: tuple[MagneticOrderingResult, ...] = Field(
        (),
        description="relaxed magnetic orderings, lowest energy first; the first is this structure",
    )
    folder: str | None = Field(None, description="host:path of the static calculation")

    @computed_field(  # type: ignore[prop-decorator]
        description="whether no requested magnetic ordering is missing"
    )
    @property
    def is_complete(self) -> bool:
        """Whether all requested magnetic orderings have an energy."""
        return missing_orderings(self.magnetic_orders) is None

    @computed_field(description="state of each site, from its moment")  # type: ignore[prop-decorator]
    @property
    def oxidation_states(self) -> OxidationStates | None:
        """Formal oxidation states; None without moments."""
        return None if self.magmoms is None else oxidation_states(self.structure, self.magmoms)


class Ending(StrEnum):
    """Outcomes of a relaxation."""

    CONVERGED = "converged"
    OUT_OF_STEPS = "out of steps"
    UNSOUND = "unsound geometry"
    STOPPED = "stopped"
    RAISED = "the potential raised"
    KILLED = "killed"


class Curve(Document):
    """Energies, forces and volumes by relaxation step, starting with the initial structure.

    If a symmetrized copy replaced the relaxed structure, its steps follow, starting with the copy.
    The last forces are missing if the relaxation was stopped before they were computed.
    """

    energies: list[float] = Field(default_factory=list, description="corrected, eV/atom")
    max_forces: list[float] = Field(
        default_factory=list, description="largest force on atoms and cell, eV/A"
    )
    volumes: list[float] = Field(default_factory=list, description="A^3/atom")


class RelaxationResult(Document):
    """Result of relaxing one structure.

    If the relaxation ended early, ``relaxed`` is its last structure, marked as not converged. It is
    None if the potential raised an error.
    """

    ending: Ending
    reason: str | None = Field(None, description="why it did not converge")
    relaxed: RelaxedStructure | None = None
    curve: Curve = Field(default_factory=Curve)
    would_stop_at: int | None = Field(
        None, description="step at which it was stopped, or would have been without an audit"
    )
    cpu_seconds: float = Field(0.0, description="processor time, s")


class Confirmation(Document):
    """Result of the second, independent potential for a relaxed structure."""

    level_of_theory: str
    energy_per_atom: float = Field(description="with corrections, eV/atom")
    decomposition_energy: float = Field(
        description="relative to the hull of the reference phases of its level, eV/atom"
    )
    disagreement: float = Field(
        description="decomposition energy, second potential minus first, eV/atom"
    )
    n_steps: int = Field(description="relaxation steps until it agreed or was stopped")
    cpu_seconds: float


class PrescreenVerdict(Document):
    """Verdict of the prescreen on one structure."""

    model_config = ConfigDict(extra="forbid")  # verdicts of other versions have other fields

    rejected_at: ScreeningStep | None = Field(
        None, description="step that rejected it; None: it survived"
    )
    reason: str | None = None
    level_of_theory: str | None = Field(None, description="level of the relaxing potential")
    decomposition_energy: float | None = Field(
        None,
        description="relative to the hull of the reference phases of that level, eV/atom; "
        "negative below it",
    )
    confirmation: Confirmation | None = None
    duplicate_of: str | None = Field(None, description="candidate that is the same crystal")
    n_steps: int | None = None
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relative, per atom")
    would_stop_at: int | None = Field(
        None, description="step at which it was stopped, or would have been without the audit"
    )
    is_audited: bool = Field(
        default=False, description="never stopped early, to measure the losses of early stopping"
    )

    def rejected(self, step: ScreeningStep, reason: str, duplicate_of: str | None = None) -> Self:
        """Return this verdict with the step that rejected the structure, and the reason."""
        rejection = {"rejected_at": step, "reason": reason, "duplicate_of": duplicate_of}
        return self.model_copy(update=rejection)


class Proposal(Document):
    """A structure in the funnel: first as proposed, later with the results of the prescreen."""

    candidate_id: str = Field(description="the letter c and 15 hexadecimal digits")
    structure: Structure = Field(description="before any relaxation")
    origin: Origin
    prescreen: PrescreenVerdict | None = Field(None, description="None: not prescreened")
    relaxation: RelaxationResult | None = Field(
        None, description="by the first potential of the prescreen, or of a reference phase"
    )

    @property
    def survives(self) -> bool:
        """Whether no step of the prescreen rejected it."""
        return self.prescreen is None or self.prescreen.rejected_at is None


class Screened(Document):
    """Structures of one batch after the prescreen, or of one composition after the selection."""

    proposals: list[Proposal]

    @property
    def survivors(self) -> list[Proposal]:
        """Structures that no step rejected."""
        return [proposal for proposal in self.proposals if proposal.survives]


class Assessment(Document):
    """Stability against reference phases, later also other candidates, at one level of theory."""

    formation_energy_per_atom: float = Field(description="eV/atom")
    decomposition_energy: float = Field(
        description="energy relative to the hull of all other phases, eV/atom: negative for a "
        "stable phase, the energy above hull of an unstable one"
    )
    reference_decomposition_energy: float = Field(
        description="energy relative to the hull of the reference phases alone, eV/atom; negative "
        "below it"
    )
    decomposes_to: dict[str, float] = Field(
        description="competing phases by name, with the fraction of atoms in each; other "
        "candidates with their ids"
    )
    uncovered_subsystems: list[str] = Field(
        default_factory=list,
        description="subsystems of its elements without a reference phase, as the hull is "
        "incomplete: the candidate may look too stable",
    )
    pourbaix: PourbaixStability | None = None
    pourbaix_reason: str | None = Field(None, description="why the Pourbaix stability is missing")

    @computed_field(description="eV/atom; 0: stable")  # type: ignore[prop-decorator]
    @property
    def energy_above_hull(self) -> float:
        """Energy above the hull, eV/atom; zero for stable phases."""
        return max(self.decomposition_energy, 0.0)


class Verdict(Proposal):
    """A structure with its results and stage after the evaluation."""

    relaxed: RelaxedStructure | None = Field(None, description="at the final level of theory")
    assessment: Assessment | None = None
    stage: str = Field(description=STAGE_DESCRIPTION)
    reason: str | None = Field(None, description="why it does not reach the next stage")
    failure: CalculationFailure | None = Field(None, description="failure of a calculation")
    references: str | None = Field(None, description="content hash of the reference set")
    band_gap_job: str | None = Field(
        None, description="uuid of the band-gap job, even if it never ran"
    )
    band_gap: BandGapResult | None = Field(None, description="None: not computed")
    relaxed_hash: str | None = Field(
        None, description="content hash of the relaxed structure; user's properties depend on it"
    )
    properties: dict[str, PropertyResult] = Field(
        default_factory=dict, description="results of the user's properties, by name"
    )


class Novelty(Document):
    """Known crystals that a candidate matches by StructureMatcher."""

    is_novel: bool | None = Field(
        description="neither a training structure nor a reference phase; None: the training set of "
        "its generator is unknown"
    )
    training_match: str | None = Field(None, description="label of the training structure")
    reference_match: str | None = Field(None, description="name of the reference phase")
    training_set: str | None = Field(
        None,
        description="content hash of the training sets of the campaign's generators; None: "
        "unknown, or the campaign has no generator",
    )


class Symmetry(Document):
    """Symmetry of a structure at the stated tolerances: fields of emmet-core's ``SymmetryData``."""

    crystal_system: str | None = Field(None, description="such as Cubic")
    symbol: str | None = Field(None, description="space group symbol")
    hall: str | None = Field(None, description="Hall symbol")
    number: int | None = Field(None, description="space group number")
    point_group: str | None = None
    symprec: float | None = Field(None, description="distance tolerance of spglib, A")
    angle_tolerance: float | None = Field(None, description="angle tolerance of spglib, degrees")
    version: str | None = Field(None, description="version of spglib")


class Candidate(Document):
    """One document of the ``candidates`` collection. Field names follow emmet-core."""

    candidate_id: str
    campaign: str
    stage: str = Field(description=STAGE_DESCRIPTION)
    reason: str | None = Field(None, description="why it does not reach the next stage")
    missing_property: str | None = Field(
        None, description="property that the next stage needs and that is not computed"
    )
    failure: CalculationFailure | None = Field(None, description="failure of a calculation")
    origin: Origin
    formula_pretty: str
    chemsys: str
    nsites: int
    density: float | None = Field(None, description="of the latest structure, g/cm^3")
    volume_per_atom: float | None = Field(None, description="of the latest structure, A^3")
    total_magnetization: float | None = Field(
        None,
        description="absolute value of the sum of the moments of ``structure``, Bohr magnetons; "
        "None: its moments are unknown",
    )
    symmetry: Symmetry | None = Field(
        None,
        description="symmetry of ``structure``, or of ``generated_structure`` if it is None, at a "
        "tolerance of 0.1 A",
    )
    tight_symmetry: Symmetry | None = Field(None, description="the same at a tolerance of 0.01 A")
    generated_structure: Structure
    generated_symmetry: Symmetry | None = Field(
        None, description="symmetry of ``generated_structure`` at a tolerance of 0.1 A"
    )
    prescreen: PrescreenVerdict | None = Field(None, description="results of the prescreen")
    structure: Structure | None = Field(None, description="after relaxation")
    oxidation_states: OxidationStates | None = Field(
        None, description="states of the sites of ``structure``, from their moments"
    )
    level_of_theory: str | None = None
    energy_per_atom: float | None = Field(None, description="eV/atom")
    energy_incomplete: str | None = Field(
        None,
        description="magnetic orderings missing from the energy, with reasons; the energy is then "
        "an upper bound. None: complete",
    )
    formation_energy_per_atom: float | None = Field(None, description="eV/atom")
    energy_above_hull: float | None = Field(
        None,
        description="above the hull of reference phases and all candidates of its level, eV/atom; "
        "0: stable. None: no energy, or an implausible one",
    )
    decomposition_energy: float | None = Field(
        None,
        description="energy relative to the hull of all other phases, eV/atom: negative for a "
        "stable phase, the energy above hull of an unstable one. None: no energy, or an "
        "implausible one",
    )
    reference_decomposition_energy: float | None = Field(
        None,
        description="energy relative to the hull of the reference phases alone, eV/atom; negative "
        "below it",
    )
    decomposes_to: dict[str, float] | None = Field(
        None,
        description="competing phases by name, with the fraction of atoms in each; other "
        "candidates with their ids",
    )
    uncovered_subsystems: list[str] | None = Field(
        None,
        description="subsystems of its elements without a reference phase: if there are any, the "
        "hull is incomplete and the candidate may look too stable. None: no energy above hull",
    )
    novelty: Novelty | None = None
    duplicate_of: str | None = Field(
        None, description="id of the candidate of lowest energy that is the same crystal"
    )
    duplicates: list[str] = Field(default_factory=list)
    pourbaix: PourbaixStability | None = None
    band_gap: float | None = Field(
        None,
        description="eV; None: not computed, or incomplete and not accepted by its campaign",
    )
    incomplete_band_gap: float | None = Field(
        None,
        description="gap while magnetic orderings are missing, eV: possibly that of another "
        "ordering; see band_gap_reason",
    )
    is_gap_direct: bool | None = None
    band_gap_method: str | None = None
    band_gap_reason: str | None = Field(
        None, description="why there is no band gap, or why it is incomplete"
    )
    band_gap_result: BandGapResult | None = None
    properties: dict[str, PropertyResult] = Field(
        default_factory=dict, description="results of the user's properties, by name"
    )
    gate: dict[str, Any] | None = Field(
        None,
        description="stage, references and decomposition energy when it was evaluated",
    )
    last_updated: datetime
    builder_meta: dict[str, Any] = Field(default_factory=dict)
