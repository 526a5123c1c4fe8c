"""What a proposer is worth: its samples before relaxation, and after.

The field's measure is S.U.N. (Zeni et al., Nature 2025, 639, 624): the share of the structures
sent to relaxation that are *stable* (at most a threshold above the convex hull, geometry sound and
relaxation converged), *unique* (match no more stable relaxed structure of the same proposer) and
*novel* (match neither a training structure nor a known phase, after relaxation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from gan_htvs.assessment import Judge
from gan_htvs.candidate import Stage
from gan_htvs.errors import UserError
from gan_htvs.evaluation.documents import (
    Draw,
    Evaluation,
    Measures,
    Outcome,
    Published,
    Report,
    Sample,
)
from gan_htvs.evaluation.known import KnownCrystals
from gan_htvs.evaluation.measures import mark_unique, measure
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.thermodynamics.references import reference_phases
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from gan_htvs.candidate import RelaxedStructure
    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.dataset import Dataset
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.pointcloud import DecodedCells
    from gan_htvs.proposers import Proposer, RawSample
    from gan_htvs.proposers.sampling import SampleResult
    from gan_htvs.relaxation import Relaxations
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase

__all__ = ["Evaluation", "Measures", "Published", "Report", "Sample", "evaluate"]

THRESHOLDS = (0.2, 0.08, 0.0)
"""Distances from the hull that are reported, eV/atom; 0 is on or below it."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the number done and the total."""


def evaluate(
    proposer: Proposer,
    compositions: Sequence[Counts],
    *,
    oxidation_states: OxidationRanges,
    training: Dataset,
    held_out: Dataset | None = None,
    relaxations: Relaxations,
    known_phases: Sequence[ReferencePhase] | None = None,
    n_samples: int = 100,
    n_relaxed: int = 20,
    seed: int = 0,
    thresholds: Sequence[float] = THRESHOLDS,
    max_tries_per_structure: int = 200,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Judge a proposer by its samples and by what they relax to.

    The samples of a composition depend on the seed, the proposer and the composition alone, so
    that a run with other compositions, or one that was interrupted, has the same ones.

    Parameters
    ----------
    proposer
        What proposes.
    compositions
        Atoms per cell of each element, one entry for each composition.
    oxidation_states
        Of a charge-balanced cell.
    training, held_out
        What counts as known, and what may be found again.
    relaxations
        Relaxes, and remembers what it relaxed.
    known_phases
        What the hull is made of, and counts as known too; None: those that come with the package.
    n_samples
        Valid, unique structures wanted of each composition.
    n_relaxed
        The first so many of them, ``n_samples`` at most, are relaxed; 0: none, and no known phase
        either, so that the chemical system may be one of which no phases are known.
    seed
        Decides all samples.
    thresholds
        Distances from the hull, eV/atom.
    max_tries_per_structure
        Raw samples per wanted structure before a composition is left as it is.
    on_progress
        Told what goes on.

    Raises
    ------
    UserError
        If a composition is impossible, or the potential or the journal fails, or something is to
        be relaxed and nothing is known about an element.
    """
    system = proposer.system
    if not compositions:
        raise UserError("compositions: there is none to evaluate; name at least one.")

    def told(what: str) -> Callable[[int, int], None]:
        what = f"{proposer.name}: {what}"
        return lambda done, total: on_progress(what, done, total) if on_progress else None

    n_relaxed = min(n_relaxed, n_samples)
    phases = known_phases
    if phases is None:
        phases = _known_phases(system, required=n_relaxed > 0)
    known = KnownCrystals(training, held_out, phases)
    compositions = list(dict.fromkeys(compositions))
    draws: list[Draw] = []
    samples: list[Sample] = []
    to_relax: list[tuple[Sample, Structure]] = []
    for done, counts in enumerate(compositions):
        told("sampling")(done, len(compositions))
        recorder = _recorder(proposer, counts)
        found = sample(
            recorder,
            counts,
            n_samples,
            seed=seed,
            max_tries_per_structure=max_tries_per_structure,
            oxidation_states=oxidation_states,
        )
        draws.append(_draw(found, recorder, oxidation_states, known))
        new = _samples(found, counts, known)
        samples += new
        to_relax += list(zip(new, found.structures, strict=True))[:n_relaxed]
    told("sampling")(len(compositions), len(compositions))
    if to_relax:
        references = relaxations.references(phases, on_progress=told("known phases"))
        relaxed = relaxations.relax(
            [structure for _, structure in to_relax], on_progress=told("relaxing")
        )
        for (one, _), result in zip(to_relax, relaxed, strict=True):
            _record(one, result, references, known)
        mark_unique(samples)
    return Evaluation(
        proposer=proposer.name,
        chemsys=system.chemsys,
        level_of_theory=relaxations.level_of_theory,
        seed=seed,
        n_samples=n_samples,
        n_relaxed=n_relaxed,
        known_phases=len(phases),
        training_structures=len(training),
        held_out_structures=len(held_out) if held_out else 0,
        compositions=[
            measure(
                [draw],
                [one for one in samples if one.composition == draw.composition],
                thresholds,
                composition=draw.composition,
            )
            for draw in draws
        ],
        overall=measure(draws, samples, thresholds),
        draws=draws,
        samples=samples,
    )


def _known_phases(system: ChemicalSystem, *, required: bool) -> list[ReferencePhase]:
    """List the known phases, of which there are none if nothing is known about an element."""
    try:
        return reference_phases(system.elements)
    except UserError:
        if required:
            raise
        return []


_OUTCOMES = {Stage.REJECTED: Outcome.HOLE, Stage.FAILED: Outcome.NOT_CONVERGED}


class _Recorder:
    """A proposer that keeps what it proposed of one composition."""

    reads = False
    """Whether a classifier reads compositions from the samples."""

    def __init__(self, proposer: Proposer, counts: Counts) -> None:
        self.name = proposer.name
        self.system = proposer.system
        self.volume_per_atom = proposer.volume_per_atom
        self.samples: list[RawSample] = []
        self.proposer = proposer
        self.counts = counts

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        for raw in self.proposer.raw_samples(counts, rng):
            self.samples.append(raw)
            yield raw

    def atoms(self, n: int) -> Sequence[Counts]:
        """Tell which atoms the first ``n`` raw samples have, those that are no crystal included."""
        return [self.counts] * n

    def n_balanced(self, n: int, oxidation_states: OxidationRanges) -> int:
        """Count, of the first ``n`` raw samples, those with atoms that can be neutral."""
        return sum(
            min(atoms) > 0 and self.system.is_charge_balanced(atoms, oxidation_states)
            for atoms in self.atoms(n)
        )


class _GanRecorder(_Recorder):
    """The same of a generator, which makes other atoms than it was asked for, too."""

    def __init__(self, proposer: GanProposer, counts: Counts) -> None:
        self.reads = proposer.trained.classifier is not None
        self.generator = _KeptCells(proposer.trained)
        super().__init__(self.generator, counts)

    def atoms(self, n: int) -> Sequence[Counts]:
        return self.generator.atoms[:n]


class _KeptCells(GanProposer):
    """A generator that keeps the atoms of whatever it decoded."""

    def __init__(self, trained: TrainedGenerator) -> None:
        super().__init__(trained)
        self.atoms: list[Counts] = []

    def read_batch(
        self, counts: Counts, rng: np.random.Generator
    ) -> tuple[DecodedCells, list[RejectionReason | None]]:
        cells, refused = super().read_batch(counts, rng)
        self.atoms += [tuple(row) for row in cells.counts.tolist()]
        return cells, refused


def _recorder(proposer: Proposer, counts: Counts) -> _Recorder:
    if isinstance(proposer, GanProposer):
        return _GanRecorder(proposer, counts)
    return _Recorder(proposer, counts)


def _draw(
    found: SampleResult,
    recorder: _Recorder,
    oxidation_states: OxidationRanges,
    known: KnownCrystals,
) -> Draw:
    counts = recorder.counts
    raw = recorder.samples[: found.tried]
    crystals = [one for one in raw if isinstance(one, Structure)]
    problems = Counter(filter(None, map(check_geometry, crystals)))
    n_read = found.tried - found.reasons[RejectionReason.WRONG_COMPOSITION]
    return Draw(
        composition=known.system.formula(counts),
        wanted=found.wanted,
        tried=found.tried,
        exhausted=found.exhausted,
        read=n_read if recorder.reads else None,
        balanced=recorder.n_balanced(found.tried, oxidation_states),
        decoded=len(crystals),
        before_push={str(reason): n for reason, n in sorted(problems.items())},
        rejections={str(reason): n for reason, n in sorted(found.reasons.items())},
        held_out=known.n_held_out(counts),
    )


def _samples(found: SampleResult, counts: Counts, known: KnownCrystals) -> list[Sample]:
    return [
        Sample(
            composition=known.system.formula(counts),
            index=index,
            max_displacement=displacement,
            novel_as_generated=known.is_novel(structure),
            rediscovers_as_generated=known.rediscovered(structure),
        )
        for structure, index, displacement in zip(
            found.structures, found.indices, found.max_displacement, strict=True
        )
    ]


def _record(
    one: Sample, relaxed: RelaxedStructure | None, references: ReferenceSet, known: KnownCrystals
) -> None:
    """Write down what a relaxation made of a sample; ``unique`` needs all of them."""
    if relaxed is None:
        one.fate = Outcome.FAILED
        return
    one.n_steps = relaxed.n_steps
    one.cpu_seconds = relaxed.cpu_seconds
    one.volume_change = relaxed.volume_change
    if (problem := Judge.soundness(relaxed)) is not None:
        one.fate = _OUTCOMES[problem[0]]
        return
    references.check_level(relaxed.level_of_theory)
    above_hull = references.energy_above_hull(
        relaxed.structure.composition, relaxed.energy_per_atom
    )
    one.energy_per_atom = relaxed.energy_per_atom
    if not Judge.believes(above_hull):
        one.fate = Outcome.UNBELIEVABLE
        return
    one.fate = Outcome.SOUND
    one.structure = relaxed.structure
    one.energy_above_hull = above_hull
    one.novel = known.is_novel(relaxed.structure)
    one.rediscovers = known.rediscovered(relaxed.structure)
