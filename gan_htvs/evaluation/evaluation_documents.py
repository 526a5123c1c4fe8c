"""Documents of an evaluation: samples, measures and the report."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field
from pymatgen.core import Composition

from gan_htvs.core.document import Document
from gan_htvs.core.statistics import Share
from gan_htvs.core.stored_structure import StoredStructure
from gan_htvs.evaluation.rediscovery_documents import Rediscovery, RediscoveryTargets
from gan_htvs.structures.validity import RejectionReason

METASTABLE = 0.1
"""Energy above hull up to which generated structures count as stable in MatterGen and as
metastable in LeMat-GenBench, eV/atom."""

PERCENTS = (0, 10, 25, 50, 75, 90)
"""Percentiles of the energies; 0 is the lowest one."""


class Outcome(StrEnum):
    """Outcome of the relaxation of a sample."""

    NOT_RELAXED = "not_relaxed"
    INVALID = "invalid"
    """The geometry of a given structure is not valid, so it was not relaxed; counted as failed."""
    SOUND = "sound"
    HOLE = "hole"
    """The geometry is unsound, or the relaxation converged to a crystal that broke apart."""
    IMPLAUSIBLE = "implausible"
    """The energy is too far below the hull; counted as a hole, too."""
    NOT_CONVERGED = "not_converged"
    FAILED = "failed"
    """The potential raised, or returned numbers that are not finite."""


class Sample(Document):
    """Structure to evaluate, and the result of its relaxation.

    Samples of a proposer are valid and unique before relaxation; other structures need not be.
    """

    composition: str = Field(description="cell formula; of a proposer, the requested one")
    index: int = Field(
        description="index of the raw sample within its composition, or position in the list"
    )
    label: str | None = Field(None, description="file or name of a given structure")
    max_displacement: float = Field(description="largest displacement by overlap removal, A")
    flaw: RejectionReason | None = Field(None, description="why the geometry is not valid")
    unique_as_generated: bool = Field(
        False, description="is valid and matches no earlier sample of the composition"
    )
    novel_as_generated: bool = Field(
        False,
        description="is valid and matches no training structure and no reference phase before "
        "relaxation",
    )
    rediscovers_as_generated: tuple[int, ...] = Field(
        (), description="held-out structures that it matches before relaxation, by position"
    )
    outcome: Outcome = Outcome.NOT_RELAXED
    structure: StoredStructure | None = Field(None, description="after a sound relaxation")
    energy_per_atom: float | None = Field(None, description="eV/atom")
    decomposition_energy: float | None = Field(
        None,
        description="relative to the hull of the reference phases, eV/atom; negative below it; of "
        "sound structures only",
    )
    n_steps: int | None = Field(None, description="steps of the optimizer")
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relaxed over initial volume - 1")
    rmsd: float | None = Field(
        None,
        description="root mean square displacement of the atoms by the relaxation, A; null if the "
        "structures cannot be superimposed",
    )
    unique: bool | None = Field(
        None, description="whether no more stable relaxed structure of the proposer matches it"
    )
    novel: bool | None = Field(
        None, description="matches no training structure and no reference phase after relaxation"
    )
    rediscovers: tuple[int, ...] = Field(
        (), description="held-out structures that it matches after relaxation, by position"
    )

    def is_stable(self, threshold: float) -> bool:
        """Return whether it is sound and at most ``threshold`` (eV/atom) above the hull."""
        return self.decomposition_energy is not None and self.decomposition_energy <= threshold

    def is_sun(self, threshold: float) -> bool:
        """Return whether it is stable, unique and novel."""
        return self.is_stable(threshold) and bool(self.unique) and bool(self.novel)


class Draw(Document):
    """Counts of raw samples of one composition."""

    composition: str = Field(description="cell formula; of a proposer, the requested one")
    requested: int = Field(description="valid, unique structures requested; or given structures")
    tried: int = Field(description="raw samples drawn")
    read: int | None = Field(
        None,
        description="raw samples from which the classifier reads the composition; null without one",
    )
    decoded: int = Field(description="raw samples that are a crystal of the composition")
    exhausted: bool = Field(description="whether the proposer has no more samples")
    balanced: int | None = Field(
        None,
        description="raw samples whose decoded atoms can be charge-neutral; null if oxidation "
        "states are unknown",
    )
    before_declash: dict[str, int] = Field(
        description="invalid decoded samples before overlap removal, by reason"
    )
    rejections: dict[str, int] = Field(
        default_factory=dict,
        description="rejections of raw samples, overlap removal included, by reason",
    )

    @property
    def cell(self) -> Composition:
        """Composition of the requested cell."""
        return Composition(self.composition)

    @property
    def n_found(self) -> int:
        """Raw samples that were not rejected."""
        return self.tried - sum(self.rejections.values())


class AtThreshold(Document):
    """Shares of stable and of S.U.N. structures at one threshold, of those sent to relaxation."""

    threshold: float = Field(description="largest energy above hull, eV/atom")
    stable: Share
    sun: Share = Field(description="stable, unique and novel")
    sun_per_cpu_hour: float | None = Field(
        description="per hour of processor time spent relaxing; null if it was not recorded"
    )


class Diversity(Document):
    """Numbers of different prototypes and space groups; see docs/evaluation.md."""

    n_structures: int = Field(description="sound relaxed structures")
    prototypes: int = Field(description="different AFLOW-style prototypes, without the elements")
    effective_prototypes: float = Field(description="exp(Shannon entropy), from 1 to prototypes")
    space_groups: int = Field(description="different space groups at 0.1 A")
    effective_space_groups: float = Field(description="exp(Shannon entropy)")


class Measures(Document):
    """Measures of one composition, or of all compositions together."""

    composition: str | None = Field(description="cell formula; null: all compositions")
    read: Share | None = Field(
        description="raw samples from which the classifier reads the composition; null without one"
    )
    matched: Share = Field(description="raw samples whose decoded rows have the composition")
    balanced: Share | None = Field(
        description="raw samples whose decoded atoms can be charge-neutral, of any composition; "
        "null if oxidation states are unknown"
    )
    valid_before_declash: Share = Field(
        description="matched samples with a possible cell, and volume and distances within limits"
    )
    valid: Share = Field(
        description="matched samples that pass the same checks and keep 85 % of the overlap "
        "distances after overlap removal"
    )
    unique: Share = Field(description="valid samples that match no earlier one")
    novel: Share = Field(
        description="unique samples that match no training structure and no reference phase"
    )
    rediscovered: Share = Field(description="held-out structures among the unique samples")
    rediscovered_relaxed: Share = Field(
        description="held-out structures among the relaxed samples, which are fewer"
    )
    outcomes: dict[Outcome, int] = Field(description="number of relaxations by outcome")
    unique_relaxed: Share = Field(description="sound relaxed samples that match no more stable one")
    novel_relaxed: Share = Field(
        description="sound relaxed samples that match no training structure and no reference phase"
    )
    superimposed_relaxed: Share = Field(
        description="sound relaxed samples that can be superimposed on their start"
    )
    thresholds: list[AtThreshold] = Field(description="widest first")
    energy_percentiles: dict[int, float] = Field(
        description="percentiles of the decomposition energies of sound structures, eV/atom; empty "
        "without any"
    )
    mean_rmsd: float | None = Field(
        description="mean root mean square displacement by relaxation, A, of superimposed ones"
    )
    diversity: Diversity | None = Field(description="of the sound structures; null without any")
    mean_steps: float | None = Field(description="steps of the optimizer per relaxation")
    cpu_seconds: float | None = Field(
        description="processor time of all relaxations, s; null if it was not recorded"
    )

    @property
    def n_relaxed(self) -> int:
        """Structures sent to relaxation."""
        return sum(self.outcomes.values())


class Evaluation(Document):
    """Evaluation of one proposer."""

    proposer: str = Field(description="proposer, or name of the given structures")
    chemsys: str
    level_of_theory: str = Field(description="level of theory of all energies")
    seed: int | None = Field(description="random seed of the samples; null for given structures")
    n_samples: int | None = Field(
        description="unique, valid structures requested for each composition; null for given ones"
    )
    n_relaxed: int | None = Field(
        description="limit on relaxed structures of each composition; null: all were relaxed"
    )
    reference_phases: int = Field(
        description="number of reference phases; 0: 'novel' only refers to the training structures"
    )
    training_structures: int
    held_out_structures: int
    compositions: list[Measures]
    overall: Measures
    draws: list[Draw]
    samples: list[Sample]

    @property
    def thresholds(self) -> list[float]:
        """Thresholds on the energy above hull, widest first, eV/atom."""
        return [at.threshold for at in self.overall.thresholds]


PUBLISHED_CHEMSYS = "Mg-Mn-O"
"""Chemical system of the published study."""


class Published(Document):
    """Published share of stable structures, with its level of theory."""

    chemsys: str = PUBLISHED_CHEMSYS
    label: str
    threshold: float = Field(description="eV/atom above hull")
    stable: Share
    level_of_theory: str = "DFT (PBE+U)"
    source: str = "Kim et al., ACS Cent. Sci. 2020, 6, 1412"


_GROUPS = (
    ("11 known compositions", 3_300, {0.2: 368, 0.08: 35}),
    ("20 new compositions", 6_000, {0.2: 753, 0.08: 113}),
    ("all 31", 9_300, {0.2: 1_121, 0.08: 148}),
)

PUBLISHED = tuple(
    Published(label=label, threshold=threshold, stable=Share(k=k, n=n))
    for label, n, counts in _GROUPS
    for threshold, k in counts.items()
)
"""Shares of structures relaxed by DFT, not comparable with those of a potential."""


class Report(Document):
    """Evaluations of a trained generator or of given structures, and of baselines."""

    campaign: str
    checkpoint: str | None = Field(description="sha256 of the generator; null: given structures")
    structures: str | None = Field(None, description="content hash of given structures")
    steps: int | None = Field(description="training steps of the generator")
    training_seconds: float | None = Field(description="wall time of its training, s")
    dataset: str = Field(description="content hash of the dataset, before the split")
    held_out: float = Field(description="held-out share of the dataset")
    settings: str = Field(description="content hash of the campaign and the options of the report")
    versions: dict[str, str]
    evaluations: list[Evaluation] = Field(description="generator or given structures first")
    published: tuple[Published, ...] = Field((), description="only for Mg-Mn-O")
    targets: RediscoveryTargets | None = Field(None, description="crystals to be found")
    rediscoveries: list[Rediscovery] = Field(
        [], description="targets that are found, for each evaluation; empty without targets"
    )

    @property
    def source(self) -> str:
        """Kind and hash of what is evaluated."""
        kind = "checkpoint" if self.checkpoint else "structures"
        return f"{kind} {(self.checkpoint or self.structures or '')[:12]}"

    @property
    def folder(self) -> str:
        """Name of the folder of the report, which depends on its settings."""
        return f"evaluation-{(self.checkpoint or self.structures or '')[:12]}-{self.settings[:8]}"

    @property
    def is_relaxed(self) -> bool:
        """Whether any sample was sent to relaxation."""
        return any(evaluation.overall.n_relaxed for evaluation in self.evaluations)
