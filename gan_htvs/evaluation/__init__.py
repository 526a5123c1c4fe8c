"""What a proposer is worth: its samples before relaxation, and after.

The field's measure is S.U.N. (Zeni et al., Nature 2025, 639, 624): the share of the structures
sent to relaxation that are *stable* (at most a threshold above the convex hull, geometry sound and
relaxation converged), *unique* (match no more stable relaxed structure of the same proposer) and
*novel* (match neither a training structure nor a known phase, after relaxation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice, repeat
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
from gan_htvs.evaluation.measures import mark_unique, measure
from gan_htvs.matching import KnownStructures
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import composition_rng, sample
from gan_htvs.thermodynamics.references import reference_phases
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gan_htvs.candidate import RelaxedStructure
    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.dataset import Dataset
    from gan_htvs.proposers import Proposer, RawSample
    from gan_htvs.proposers.sampling import SampledStructure, SampleResult
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
        raw: list[RawSample] = []
        found = sample(
            proposer,
            counts,
            n_samples,
            seed=seed,
            max_tries_per_structure=max_tries_per_structure,
            oxidation_states=oxidation_states,
            on_raw=raw.append,
        )
        made = islice(_made_atoms(proposer, counts, seed), found.tried)
        balanced = [
            min(atoms) > 0 and system.is_charge_balanced(atoms, oxidation_states) for atoms in made
        ]
        crystals = [one for one in raw if isinstance(one, Structure)]
        draws.append(
            Draw(
                composition=system.formula(counts),
                wanted=n_samples,
                tried=found.tried,
                exhausted=found.exhausted,
                read=_n_read(proposer, found),
                balanced=sum(balanced),
                decoded=len(crystals),
                before_push=_counted(filter(None, map(check_geometry, crystals))),
                rejections=_counted(found.reasons.elements()),
                held_out=known.n_held_out(counts),
            )
        )
        new = [_sample(each, system.formula(counts), known) for each in found.samples]
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


class KnownCrystals:
    """What samples are compared with: training structures, known phases, and what was held out.

    Parameters
    ----------
    training, held_out
        A dataset, split in two.
    phases
        Known phases, which count as known whether they are in the dataset or not.
    """

    def __init__(
        self, training: Dataset, held_out: Dataset | None, phases: Sequence[ReferencePhase]
    ) -> None:
        self.system = training.system
        self._known = KnownStructures(
            [*training.structures(), *(phase.structure for phase in phases)]
        )
        kept_back = held_out.structures() if held_out else []
        self._held_out = KnownStructures(kept_back)
        self._counts = [self.system.counts(structure) for structure in kept_back]

    def is_novel(self, structure: Structure) -> bool:
        """Whether it matches neither a training structure nor a known phase."""
        return not self._known.holds(structure)

    def n_held_out(self, counts: Counts) -> int:
        """Held-out cells with these atoms."""
        return self._counts.count(counts)

    def rediscovered(self, structure: Structure) -> tuple[int, ...]:
        """Positions of the held-out cells with as many atoms that the structure matches."""
        counts = self.system.counts(structure)
        return tuple(i for i in self._held_out.positions(structure) if self._counts[i] == counts)


def _known_phases(system: ChemicalSystem, *, required: bool) -> list[ReferencePhase]:
    """List the known phases, of which there are none if nothing is known about an element."""
    try:
        return reference_phases(system.elements)
    except UserError:
        if required:
            raise
        return []


_OUTCOMES = {Stage.REJECTED: Outcome.HOLE, Stage.FAILED: Outcome.NOT_CONVERGED}


def _made_atoms(proposer: Proposer, counts: Counts, seed: int) -> Iterator[Counts]:
    """Yield the atoms of the raw samples, those that are no crystal included.

    A generator makes other atoms than it was asked for, too; it makes the samples once more.
    """
    rng = composition_rng(seed, counts)
    while isinstance(proposer, GanProposer):
        cells, _ = proposer.read_batch(counts, rng)
        yield from (tuple(row) for row in cells.counts.tolist())
    yield from repeat(counts)


def _n_read(proposer: Proposer, found: SampleResult) -> int | None:
    """Count the raw samples from which a classifier, if there is one, reads the composition."""
    if not isinstance(proposer, GanProposer) or proposer.trained.classifier is None:
        return None
    return found.tried - found.reasons[RejectionReason.WRONG_COMPOSITION]


def _counted(reasons: Iterable[RejectionReason]) -> dict[str, int]:
    return {str(reason): n for reason, n in sorted(Counter(reasons).items())}


def _sample(sampled: SampledStructure, composition: str, known: KnownCrystals) -> Sample:
    return Sample(
        composition=composition,
        index=sampled.index,
        max_displacement=sampled.max_displacement,
        novel_as_generated=known.is_novel(sampled.structure),
        rediscovers_as_generated=known.rediscovered(sampled.structure),
    )


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
