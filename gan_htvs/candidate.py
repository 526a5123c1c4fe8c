"""The documents: who a candidate is, what was computed for it, how far it came."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from emmet.core.symmetry import SymmetryData
from pydantic import Field, computed_field, model_validator
from pymatgen.core import Structure

from gan_htvs.bandgap import BandGapResult, MagneticOrderResult, missing_orders
from gan_htvs.documents import Document
from gan_htvs.engines import REHEARSAL
from gan_htvs.failures import CalculationFailure
from gan_htvs.oxidation import OxidationStates, oxidation_states
from gan_htvs.proposers import ProposerName
from gan_htvs.thermodynamics.pourbaix_stability import PourbaixStability

KNOWN_PHASE: Final = "known_phase"
"""Stands for the proposer of reference phases, which are never called generated."""


def volume_change(start: Structure, end: Structure) -> float:
    """Relative change of the volume per atom; they may be other cells of the same crystal."""
    return (end.volume / len(end)) / (start.volume / len(start)) - 1


class Stage(StrEnum):
    """The furthest stage of the funnel that a candidate reached, or how it left."""

    GENERATED = "generated"
    RELAXED = "relaxed"
    STABLE = "stable"
    POURBAIX_STABLE = "pourbaix_stable"
    PHOTOANODE = "photoanode"
    REJECTED = "rejected"
    FAILED = "failed"


class Step(StrEnum):
    """The kinds of job, in the order in which a candidate meets them; ``metadata.step``.

    ``RELEASE`` queues what has waited for other jobs.
    """

    TRAIN = "train"
    RELAX = "relax"
    STATIC = "static"
    REFERENCES = "references"
    PROPOSE = "propose"
    PRESCREEN = "prescreen"
    GATE = "gate"
    HYBRID = "hybrid"
    BAND_GAP = "band gap"
    RELEASE = "release"


CALCULATIONS = (Step.RELAX, Step.STATIC, Step.HYBRID)
"""Steps that compute one structure: that one fails is a result."""


class Origin(Document):
    """Where a structure comes from."""

    proposer: ProposerName | Literal["known_phase"]
    requested_composition: str = Field(description="cell formula that was asked for")
    index: int = Field(description="number of the raw sample, or of the known phase")
    shard: str | None = Field(None, description="content hash of the shard that sampled it")
    checkpoint: str | None = Field(None, description="sha256 of the generator")
    seed: int | None = None
    max_displacement: float | None = Field(
        None, description="how far the soft-sphere push moved an atom of it, A"
    )
    is_remade: bool | None = Field(
        None, description="whether the push left nothing of the raw sample"
    )
    label: str | None = Field(None, description="name of a known phase")
    source: str | None = Field(None, description="literature of a known phase")

    @property
    def is_reference(self) -> bool:
        """Whether the structure is a reference phase, not a generated one."""
        return self.proposer == KNOWN_PHASE


class Proposal(Document):
    """One structure entering the funnel."""

    candidate_id: str
    structure: Structure
    origin: Origin


class Relaxed(Document):
    """What an energy engine made of a structure."""

    structure: Structure
    energy_per_atom: float = Field(
        description="static energy of the relaxed structure, corrections included, eV/atom"
    )
    correction_per_atom: float = Field(0.0, description="how much of it is corrections, eV/atom")
    level_of_theory: str
    converged: bool
    magmoms: list[float] | None = Field(None, description="bohr magneton per site")
    n_steps: int | None = None
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relative, per atom")
    pre_relaxation_steps: int | None = Field(
        None, description="steps of an interatomic potential before those of VASP"
    )
    magnetic_orders: tuple[MagneticOrderResult, ...] = Field(
        (), description="every magnetic start that was relaxed, lowest energy first: this is it"
    )
    folder: str | None = Field(None, description="host:path of the static calculation")

    @computed_field(  # type: ignore[prop-decorator]
        description="whether no magnetic order that was asked for is missing"
    )
    @property
    def is_complete(self) -> bool:
        """Whether the energy is that of all magnetic orders that were asked for."""
        return missing_orders(self.magnetic_orders) is None

    @computed_field(description="of each site, from its moment")  # type: ignore[prop-decorator]
    @property
    def oxidation_states(self) -> OxidationStates | None:
        """Formal oxidation states, where moments are known."""
        return None if self.magmoms is None else oxidation_states(self.structure, self.magmoms)


class Hurdle(StrEnum):
    """What a structure may fail at in the prescreen, in order."""

    VALIDITY = "validity"
    DUPLICATE = "duplicate before relaxation"
    RELAXATION = "relaxation"
    GEOMETRY = "geometry"
    STOPPING = "early stopping"
    WINDOW = "hull window"
    RELAXED_DUPLICATE = "duplicate after relaxation"
    CONFIRMATION = "confirmation"


class Confirmation(Document):
    """What a second, independent potential says of a relaxed structure."""

    level_of_theory: str
    energy_per_atom: float = Field(description="corrections included, eV/atom")
    energy_above_hull: float = Field(description="above the known phases at its level, eV/atom")
    disagreement: float = Field(
        description="energy above hull, second potential minus first, eV/atom"
    )
    n_steps: int = Field(description="relaxation steps that it took to agree, or to give up")
    cpu_seconds: float


class Prescreened(Document):
    """What the prescreen found out about one structure."""

    candidate_id: str
    hurdle: Hurdle | None = Field(None, description="where it left; None: it survived")
    reason: str | None = None
    level_of_theory: str | None = Field(None, description="of the potential that relaxed it")
    energy_above_hull: float | None = Field(
        None, description="above the known phases at that level, eV/atom"
    )
    confirmation: Confirmation | None = None
    duplicate_of: str | None = Field(None, description="candidate that is the same crystal")
    descent: str | None = Field(None, description="uuid of the relaxation with its curve")
    n_steps: int | None = None
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relative, per atom")
    would_stop_at: int | None = Field(
        None, description="step at which it was stopped, or would have been but for the audit"
    )
    is_audited: bool = Field(
        default=False, description="not stopped whatever the rule said, to measure what is lost"
    )

    @property
    def survives(self) -> bool:
        """Whether it goes on."""
        return self.hurdle is None


class Assessment(Document):
    """Stability against known phases, and afterwards other candidates, of one level of theory."""

    formation_energy_per_atom: float = Field(description="eV/atom")
    energy_above_hull: float = Field(description="eV/atom, negative below the hull")
    decomposes_to: dict[str, float] = Field(
        description="competing phases and atomic fractions; other candidates with their ids"
    )
    pourbaix: PourbaixStability | None = None
    pourbaix_reason: str | None = Field(None, description="why there is no Pourbaix stability")


class Verdict(Document):
    """What the stability gate saw and decided for one candidate."""

    candidate_id: str
    origin: Origin | None = None
    prescreen: Prescreened | None = Field(None, description="None: there was none")
    relaxed: Relaxed | None = None
    assessment: Assessment | None = None
    stage: Stage
    reason: str | None = None
    failure: CalculationFailure | None = Field(None, description="where a calculation failed")
    references: str = Field(description="uuid of the reference set that the gate used")
    band_gap_job: str | None = Field(
        None, description="uuid that the band gap job of this structure has, asked for or not"
    )


class Novelty(Document):
    """Which crystals that were there before a candidate is, as StructureMatcher sees it."""

    is_novel: bool | None = Field(
        description="neither a training structure nor a known phase; None: what its generator "
        "learnt from is not known"
    )
    training_match: str | None = Field(None, description="label of the training structure")
    reference_match: str | None = Field(None, description="name of the known phase")
    training_set: str | None = Field(
        None,
        description="content hash of what the campaign's generators learnt from; None: not known, "
        "or there is no generator",
    )


class Stability(Document):
    """One document of the ``stability`` collection: what all energies together say of one."""

    candidate_id: str
    campaign: str
    gate: str = Field(description="uuid of the gate that it was read from")
    references: str = Field(description="uuid of the reference set")
    formula_pretty: str | None = None
    is_known_phase: bool = False
    level_of_theory: str | None = None
    energy_per_atom: float | None = Field(None, description="corrections included, eV/atom")
    stage: Stage | None = Field(None, description="how it left before its energy was believed")
    reason: str | None = None
    assessment: Assessment | None = Field(
        None, description="against the known phases and all other candidates of its level"
    )
    energy_above_references: float | None = Field(
        None, description="energy above the hull of the known phases alone, eV/atom"
    )
    novelty: Novelty | None = None
    duplicate_of: str | None = Field(
        None, description="id of the same crystal with the lowest energy; None: it is that one"
    )
    duplicates: list[str] = Field(default_factory=list, description="ids, where it is that one")
    last_updated: datetime
    builder_meta: dict[str, Any] = Field(default_factory=dict)


class Candidate(Document):
    """One document of the ``candidates`` collection. Field names follow emmet-core."""

    candidate_id: str
    campaign: str
    stage: Stage
    reason: str | None = None
    failure: CalculationFailure | None = Field(None, description="where a calculation failed")
    is_rehearsal: bool = Field(
        default=False, description="a stand-in took the place of VASP: no number is a result"
    )
    origin: Origin
    formula_pretty: str
    chemsys: str
    nsites: int
    symmetry: SymmetryData | None = Field(None, description="of the latest structure")
    generated_structure: Structure
    prescreen: Prescreened | None = Field(
        None, description="what an interatomic potential, and a second one, made of it"
    )
    structure: Structure | None = Field(None, description="after relaxation")
    oxidation_states: OxidationStates | None = Field(
        None, description="of each site of ``structure``, from its moment; None without moments"
    )
    level_of_theory: str | None = None
    energy_per_atom: float | None = Field(None, description="eV/atom")
    energy_incomplete: str | None = Field(
        None,
        description="which magnetic orders are missing from the energy and why: it is an upper "
        "bound; None: none",
    )
    formation_energy_per_atom: float | None = Field(None, description="eV/atom")
    energy_above_hull: float | None = Field(
        None, description="above known phases and all other candidates of its level, eV/atom"
    )
    energy_above_references: float | None = Field(
        None, description="above the known phases alone, eV/atom"
    )
    decomposes_to: dict[str, float] | None = None
    novelty: Novelty | None = None
    duplicate_of: str | None = Field(
        None, description="id of the same crystal with the lowest energy"
    )
    duplicates: list[str] = Field(default_factory=list)
    pourbaix: PourbaixStability | None = None
    band_gap: float | None = Field(None, description="eV; None: not computed, or incomplete")
    incomplete_band_gap: float | None = Field(
        None,
        description="gap while magnetic orders are missing, eV: not a result, and may be that of "
        "another order; band_gap_reason names what is missing",
    )
    is_gap_direct: bool | None = None
    band_gap_method: str | None = None
    band_gap_reason: str | None = Field(
        None, description="why there is no band gap, or why it is incomplete"
    )
    band_gap_result: BandGapResult | None = None
    gate: dict[str, Any] | None = Field(
        None, description="stage, energy above hull and references at the time of the gate"
    )
    last_updated: datetime
    builder_meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _nothing_is_mixed_with_a_rehearsal(self) -> Candidate:
        for label in filter(None, (self.level_of_theory, self.band_gap_method)):
            if (label == REHEARSAL) != self.is_rehearsal:
                kind = "a rehearsal" if self.is_rehearsal else "computed"
                raise ValueError(f"{self.candidate_id} is {kind}, and holds a value of {label}")
        return self
