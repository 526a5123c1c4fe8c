"""What an evaluation stores: samples one by one, and the report."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer
from pymatgen.core import Structure

from gan_htvs.core.document import Document
from gan_htvs.core.statistics import Share

StoredStructure = Annotated[
    Structure, PlainSerializer(lambda structure: structure.as_dict(verbosity=0), when_used="json")
]
"""A structure that is pymatgen's dictionary in JSON."""


class Outcome(StrEnum):
    """What came of a sample's relaxation."""

    NOT_RELAXED = "not_relaxed"
    SOUND = "sound"
    HOLE = "hole"
    """The geometry is unsound, or the cell fell apart and converged."""
    IMPLAUSIBLE = "implausible"
    """Further below the hull than anything can be: a hole, too."""
    NOT_CONVERGED = "not_converged"
    FAILED = "failed"
    """The potential raised, or gave no finite numbers."""


class Sample(Document):
    """One valid, unique structure that a proposer made, and what came of it."""

    composition: str = Field(description="cell formula that was asked for")
    index: int = Field(description="number of the raw sample within its composition")
    max_displacement: float = Field(description="largest displacement by overlap removal, A")
    novel_as_generated: bool = Field(
        description="matched no training structure and no reference phase before relaxation"
    )
    rediscovers_as_generated: tuple[int, ...] = Field(
        (), description="held-out structures that it matched before relaxation, by position"
    )
    outcome: Outcome = Outcome.NOT_RELAXED
    structure: StoredStructure | None = Field(None, description="after a sound relaxation")
    energy_per_atom: float | None = Field(None, description="eV/atom")
    energy_above_hull: float | None = Field(
        None, description="eV/atom, negative below the hull; of sound structures only"
    )
    n_steps: int | None = Field(None, description="steps of the optimizer")
    cpu_seconds: float | None = Field(None, description="processor time of the relaxation, s")
    volume_change: float | None = Field(None, description="relaxed over declashed volume - 1")
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
        """Whether it is sound and at most ``threshold`` (eV/atom) above the hull."""
        return self.energy_above_hull is not None and self.energy_above_hull <= threshold

    def is_sun(self, threshold: float) -> bool:
        """Whether it is stable in that sense, unique and novel."""
        return self.is_stable(threshold) and bool(self.unique) and bool(self.novel)


class Draw(Document):
    """How the samples of one composition came about."""

    composition: str = Field(description="cell formula that was asked for")
    wanted: int = Field(description="valid, unique structures asked for")
    tried: int = Field(description="raw samples looked at")
    read: int | None = Field(
        description="raw samples from which the classifier reads the composition; null without one"
    )
    decoded: int = Field(description="raw samples that are a crystal of the composition")
    exhausted: bool = Field(description="whether the proposer had no more")
    balanced: int = Field(description="raw samples whose decoded atoms can be charge-neutral")
    before_declash: dict[str, int] = Field(
        description="rejections of decoded samples before overlap removal, by reason"
    )
    rejections: dict[str, int] = Field(
        description="rejections of raw samples, overlap removal included, by reason"
    )
    held_out: int = Field(description="held-out structures of the composition")

    @property
    def found(self) -> int:
        """Valid, unique structures among the raw samples."""
        return self.tried - sum(self.rejections.values())


class AtThreshold(Document):
    """What lies within one distance of the hull, of all structures sent to relaxation."""

    threshold: float = Field(description="largest energy above hull, eV/atom")
    stable: Share
    sun: Share = Field(description="stable, unique and novel")
    sun_per_cpu_hour: float | None = Field(
        description="per hour of processor time spent relaxing; null if it was not recorded"
    )


class Measures(Document):
    """The measures of one composition, or of all together. Shares are never of shares."""

    composition: str | None = Field(description="cell formula; null: all together")
    read: Share | None = Field(
        description="raw samples from which the classifier reads the composition; null without one"
    )
    matched: Share = Field(description="raw samples whose decoded rows have the composition, too")
    balanced: Share = Field(
        description="raw samples whose decoded atoms can be charge-neutral, whatever was asked for"
    )
    valid_before_declash: Share = Field(
        description="matched samples with a possible cell, 5-40 A^3/atom and no pair below 1 A"
    )
    valid: Share = Field(
        description="matched samples that pass the same checks, with element-wise distances, "
        "after overlap removal"
    )
    unique: Share = Field(description="valid samples that match no earlier one")
    novel: Share = Field(
        description="unique samples that match no training structure and no reference phase"
    )
    rediscovered: Share = Field(description="held-out structures among the unique samples")
    rediscovered_relaxed: Share = Field(
        description="held-out structures among the relaxed samples, which are fewer"
    )
    outcomes: dict[Outcome, int] = Field(description="what came of the relaxations, counted")
    unique_relaxed: Share = Field(description="sound relaxed samples that match no more stable one")
    novel_relaxed: Share = Field(
        description="sound relaxed samples that match no training structure and no reference phase"
    )
    thresholds: list[AtThreshold] = Field(description="widest first")
    mean_steps: float | None = Field(description="steps of the optimizer per relaxation")
    cpu_seconds: float | None = Field(
        description="processor time of all relaxations, s; null if it was not recorded"
    )

    @property
    def n_relaxed(self) -> int:
        """Structures sent to relaxation."""
        return sum(self.outcomes.values())


class Evaluation(Document):
    """One proposer, judged."""

    proposer: str
    chemsys: str
    level_of_theory: str = Field(description="of every energy")
    seed: int
    n_samples: int = Field(description="unique, valid structures asked for of each composition")
    n_relaxed: int = Field(description="structures relaxed at most of each composition")
    reference_phases: int = Field(
        description="phases that count as known; 0: none are known of the chemical system, so that "
        "'novel' is against the training structures alone"
    )
    training_structures: int
    held_out_structures: int
    compositions: list[Measures]
    overall: Measures
    draws: list[Draw]
    samples: list[Sample]

    @property
    def thresholds(self) -> list[float]:
        """Distances from the hull that were asked for, widest first, eV/atom."""
        return [at.threshold for at in self.overall.thresholds]


class Published(Document):
    """A published share, at its own level of theory."""

    chemsys: str = "Mg-Mn-O"
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
"""RelaxedStructure by DFT there; never the same column as a potential."""


class Report(Document):
    """A trained generator beside its baselines."""

    campaign: str
    checkpoint: str = Field(description="sha256 of the generator")
    steps: int = Field(description="training steps of the generator")
    training_seconds: float = Field(description="wall time of its training, s")
    dataset: str = Field(description="content hash of the dataset, before the split")
    held_out: float = Field(description="share of the dataset that was held out")
    settings: str = Field(
        description="content hash of the campaign and of the options that decide the report"
    )
    versions: dict[str, str]
    evaluations: list[Evaluation] = Field(description="the generator first")
    published: tuple[Published, ...] = PUBLISHED

    @property
    def folder(self) -> str:
        """Name of its folder; reports of other settings have others."""
        return f"evaluation-{self.checkpoint[:12]}-{self.settings[:8]}"

    @property
    def is_relaxed(self) -> bool:
        """Whether any sample of any proposer was sent to relaxation."""
        return any(evaluation.overall.n_relaxed for evaluation in self.evaluations)
