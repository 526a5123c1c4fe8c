"""Evaluate a proposer: validity of its samples before relaxation, stability after it.

The measure is S.U.N. (Zeni et al., Nature 2025, 639, 624): the share of the structures
sent to relaxation that are *stable* (converged to a sound geometry, at most a threshold above the
convex hull), *unique* (match no more stable relaxed structure of the same proposer) and *novel*
(match neither a training structure nor a reference phase after relaxation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from operator import attrgetter
from statistics import mean
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.core.statistics import Share
from gan_htvs.evaluation.evaluation_documents import (
    AtThreshold,
    Draw,
    Evaluation,
    Measures,
    Outcome,
    Sample,
)
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import composition_rng, sample
from gan_htvs.structures.matching import StructureIndex, UniqueStructures
from gan_htvs.structures.validity import RejectionReason, check_geometry
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible
from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.core.chemical_system import Counts, OxidationRanges
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.potentials.relaxation import Relaxations
    from gan_htvs.proposers.proposer import Proposer, RawSample
    from gan_htvs.proposers.sampling import SampleResult
    from gan_htvs.structures.geometry_limits import GeometryLimits
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase

THRESHOLDS = (0.2, 0.08, 0.0)
"""Energies above hull up to which structures count as stable, eV/atom."""

SECONDS_PER_HOUR = 3600.0

_MISMATCHES = (
    RejectionReason.WRONG_COMPOSITION,
    RejectionReason.WRONG_ATOM_ROWS,
    RejectionReason.EMPTY_ELEMENT,
)

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the number done and the total."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Size of an evaluation, and limits.

    Parameters
    ----------
    n_samples
        Valid, unique structures requested for each composition.
    n_relaxed
        Number of these, at most ``n_samples``, that are relaxed, the first ones. 0: nothing is
        relaxed, and reference phases are not required.
    seed
        Determines all samples.
    thresholds
        Energies above hull up to which structures count as stable, eV/atom.
    max_tries_per_structure
        Limit on raw samples per requested structure.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`, eV/atom.
    """

    n_samples: int = 100
    n_relaxed: int = 20
    seed: int = 0
    thresholds: Sequence[float] = THRESHOLDS
    max_tries_per_structure: int = 200
    lowest_decomposition_energy: float | None = None


def evaluate(
    proposer: Proposer,
    compositions: Sequence[Counts],
    *,
    oxidation_states: OxidationRanges,
    training: Dataset,
    held_out: Dataset | None = None,
    relaxations: Relaxations,
    phases: Sequence[ReferencePhase] | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    on_progress: Progress = lambda _what, _done, _total: None,
) -> Evaluation:
    """Evaluate a proposer: validity of its samples, and stability after relaxation.

    The samples of a composition depend only on the seed, the proposer and the composition. A run
    with other compositions, or an interrupted run, has the same samples.

    Parameters
    ----------
    proposer
        The proposer to evaluate.
    compositions
        Atoms per cell of each element, one entry for each composition.
    oxidation_states
        Range of each element, for charge balance.
    training, held_out
        Structures that are not novel, and structures that can be rediscovered.
    relaxations
        Relaxes structures and reference phases, and caches the results.
    phases
        Reference phases of the hull, which are not novel either; None: those of the package.
    settings
        Numbers of structures, seed and limits.
    on_progress
        Called with the step, the number done and the total.

    Raises
    ------
    UserError
        If a composition is impossible, the potential or the journal fails, or structures are to
        be relaxed and an element has no reference phase.
    """
    system = proposer.system
    if not compositions:
        raise UserError("compositions: the list is empty; name at least one composition.")
    n_samples, seed, thresholds = settings.n_samples, settings.seed, settings.thresholds
    n_relaxed = min(settings.n_relaxed, n_samples)
    if phases is None:
        with nullcontext() if n_relaxed else suppress(UserError):
            phases = reference_phases(system.elements)
    phases = phases or []
    known = KnownCrystals(training, held_out, phases)
    compositions = list(dict.fromkeys(compositions))
    draws: list[Draw] = []
    samples: list[Sample] = []
    to_relax: list[tuple[Sample, Structure]] = []
    for done, counts in enumerate(compositions):
        on_progress(f"{proposer.name}: sampling", done, len(compositions))
        raw: list[RawSample] = []
        result = sample(
            proposer,
            counts,
            n_samples,
            seed=seed,
            max_tries_per_structure=settings.max_tries_per_structure,
            oxidation_states=oxidation_states,
            on_raw=raw.append,
        )
        decoded_counts = islice(_decoded_counts(proposer, counts, seed), result.tried)
        balanced = [
            min(atoms) > 0 and system.is_charge_balanced(atoms, oxidation_states)
            for atoms in decoded_counts
        ]
        crystals = [item for item in raw if isinstance(item, Structure)]
        draws.append(
            Draw(
                composition=system.formula(counts),
                requested=n_samples,
                tried=result.tried,
                exhausted=result.exhausted,
                read=_n_read(proposer, result),
                balanced=sum(balanced),
                decoded=len(crystals),
                before_declash=_counts_by_reason(
                    flaw.reason
                    for crystal in crystals
                    if (flaw := check_geometry(crystal, proposer.geometry)) is not None
                ),
                rejections=_counts_by_reason(result.reasons.elements()),
                held_out=known.held_out_counts.count(counts),
            )
        )
        new = [
            Sample(
                composition=system.formula(counts),
                index=sampled.index,
                max_displacement=sampled.max_displacement,
                novel_as_generated=known.is_novel(sampled.structure),
                rediscovers_as_generated=known.rediscovered(sampled.structure),
            )
            for sampled in result.samples
        ]
        samples += new
        to_relax += list(zip(new, result.structures, strict=True))[:n_relaxed]
    on_progress(f"{proposer.name}: sampling", len(compositions), len(compositions))
    if to_relax:
        progress = partial(on_progress, f"{proposer.name}: reference phases")
        references = relaxations.references(phases, on_progress=progress)
        progress = partial(on_progress, f"{proposer.name}: relaxing")
        relaxed = relaxations.relax([start for _, start in to_relax], on_progress=progress)
        for (relaxed_sample, _), relaxation in zip(to_relax, relaxed, strict=True):
            _record(relaxed_sample, relaxation, references, known, proposer.geometry, settings)
        _mark_unique(samples)
    return Evaluation(
        proposer=proposer.name,
        chemsys=system.chemsys,
        level_of_theory=relaxations.settings.level_of_theory,
        seed=seed,
        n_samples=n_samples,
        n_relaxed=n_relaxed,
        reference_phases=len(phases),
        training_structures=len(training),
        held_out_structures=len(held_out) if held_out else 0,
        compositions=[
            _measure(
                [draw],
                [s for s in samples if s.composition == draw.composition],
                thresholds,
                composition=draw.composition,
            )
            for draw in draws
        ],
        overall=_measure(draws, samples, thresholds),
        draws=draws,
        samples=samples,
    )


class KnownCrystals:
    """Training structures, reference phases and held-out structures, to compare samples with.

    Parameters
    ----------
    training, held_out
        A dataset, split in two.
    phases
        Reference phases, which are not novel even if they are not in the dataset.

    Attributes
    ----------
    held_out_counts
        Atoms of each held-out cell.
    """

    def __init__(
        self, training: Dataset, held_out: Dataset | None, phases: Sequence[ReferencePhase]
    ) -> None:
        self.system = training.system
        self._known = StructureIndex(
            [*training.structures(), *(phase.structure for phase in phases)]
        )
        held_out_structures = held_out.structures() if held_out else []
        self._held_out = StructureIndex(held_out_structures)
        self.held_out_counts = [self.system.counts(structure) for structure in held_out_structures]

    def is_novel(self, structure: Structure) -> bool:
        """Return whether a structure matches no training structure and no reference phase."""
        return self._known.first(structure) is None

    def rediscovered(self, structure: Structure) -> tuple[int, ...]:
        """Return the positions of the held-out cells of equal size that a structure matches."""
        counts = self.system.counts(structure)
        return tuple(
            i for i in self._held_out.positions(structure) if self.held_out_counts[i] == counts
        )


_OUTCOMES = {Stage.REJECTED: Outcome.HOLE, Stage.FAILED: Outcome.NOT_CONVERGED}


def _decoded_counts(proposer: Proposer, counts: Counts, seed: int) -> Iterator[Counts]:
    """Yield the atom counts of all raw samples, including those without a valid crystal.

    A generator can decode other counts than requested; its samples are generated again.
    """
    rng = composition_rng(seed, counts)
    while isinstance(proposer, GanProposer):
        cells, _ = proposer.read_batch(counts, rng)
        yield from (tuple(row) for row in cells.counts.tolist())
    yield from repeat(counts)


def _n_read(proposer: Proposer, result: SampleResult) -> int | None:
    """Count the raw samples with the composition in the classifier; None without a classifier."""
    if not isinstance(proposer, GanProposer) or proposer.trained.classifier is None:
        return None
    return result.tried - result.reasons[RejectionReason.WRONG_COMPOSITION]


def _counts_by_reason(reasons: Iterable[RejectionReason]) -> dict[str, int]:
    return {str(reason): n for reason, n in sorted(Counter(reasons).items())}


def _record(
    sample: Sample,
    relaxed: RelaxedStructure | None,
    references: ReferenceSet,
    known: KnownCrystals,
    geometry: GeometryLimits,
    settings: EvaluationSettings,
) -> None:
    """Store the result of a relaxation in its sample, except ``unique``."""
    if relaxed is None:
        sample.outcome = Outcome.FAILED
        return
    sample.n_steps = relaxed.n_steps
    sample.cpu_seconds = relaxed.cpu_seconds
    sample.volume_change = relaxed.volume_change
    if (problem := check_relaxation(relaxed, geometry)) is not None:
        sample.outcome = _OUTCOMES[problem[0]]
        return
    references.check_level(relaxed.level_of_theory)
    decomposition = references.decomposition_energy(
        relaxed.structure.composition, relaxed.energy_per_atom
    )
    sample.energy_per_atom = relaxed.energy_per_atom
    lowest = lowest_plausible(
        settings.lowest_decomposition_energy, references.uncovered(relaxed.structure.composition)
    )
    if implausible_reason(decomposition, lowest) is not None:
        sample.outcome = Outcome.IMPLAUSIBLE
        return
    sample.outcome = Outcome.SOUND
    sample.structure = relaxed.structure
    sample.decomposition_energy = decomposition
    sample.novel = known.is_novel(relaxed.structure)
    sample.rediscovers = known.rediscovered(relaxed.structure)


def _mark_unique(samples: Sequence[Sample]) -> None:
    """Set ``unique`` of the sound samples: true for the most stable of matching ones."""
    sound = [sample for sample in samples if sample.outcome is Outcome.SOUND]
    seen = UniqueStructures()
    for candidate in sorted(sound, key=attrgetter("decomposition_energy")):
        candidate.unique = seen.add(candidate.structure)


def _measure(
    draws: Sequence[Draw],
    samples: Sequence[Sample],
    thresholds: Sequence[float],
    *,
    composition: str | None = None,
) -> Measures:
    """Compute the measures of the samples of one composition, or of all.

    Parameters
    ----------
    draws
        One for each composition.
    samples
        Samples of these compositions, with ``unique`` and ``novel`` set if they are sound.
    thresholds
        Energies above hull, eV/atom.
    composition
        Composition of all draws; None: several.
    """
    tried = sum(draw.tried for draw in draws)
    rejections = sum((Counter(draw.rejections) for draw in draws), Counter[str]())
    before_declash = sum(sum(draw.before_declash.values()) for draw in draws)
    held_out = sum(draw.held_out for draw in draws)
    n_read = [draw.read for draw in draws if draw.read is not None]
    matched = tried - sum(rejections[reason] for reason in _MISMATCHES)
    decoded = sum(draw.decoded for draw in draws)
    unique = len(samples)
    valid = unique + rejections[RejectionReason.DUPLICATE]
    relaxed = [sample for sample in samples if sample.outcome is not Outcome.NOT_RELAXED]
    sound = [sample for sample in relaxed if sample.outcome is Outcome.SOUND]
    steps = [s.n_steps for s in relaxed if s.n_steps is not None]
    seconds = [s.cpu_seconds for s in relaxed if s.cpu_seconds is not None]
    n_ended = sum(sample.outcome is not Outcome.FAILED for sample in relaxed)
    cpu_seconds = sum(seconds) if seconds and len(seconds) == n_ended else None
    return Measures(
        composition=composition,
        read=Share(k=sum(n_read), n=tried) if len(n_read) == len(draws) else None,
        matched=Share(k=matched, n=tried),
        balanced=Share(k=sum(draw.balanced for draw in draws), n=tried),
        valid_before_declash=Share(k=decoded - before_declash, n=matched),
        valid=Share(k=valid, n=matched),
        unique=Share(k=unique, n=valid),
        novel=Share(k=sum(s.novel_as_generated for s in samples), n=unique),
        rediscovered=Share(k=_n_rediscovered(samples, "rediscovers_as_generated"), n=held_out),
        rediscovered_relaxed=Share(k=_n_rediscovered(samples, "rediscovers"), n=held_out),
        outcomes=Counter(sample.outcome for sample in relaxed),
        unique_relaxed=Share(k=sum(bool(s.unique) for s in sound), n=len(sound)),
        novel_relaxed=Share(k=sum(bool(s.novel) for s in sound), n=len(sound)),
        thresholds=[
            _at(threshold, relaxed, cpu_seconds) for threshold in sorted(thresholds, reverse=True)
        ],
        mean_steps=mean(steps) if steps else None,
        cpu_seconds=cpu_seconds,
    )


def _at(threshold: float, relaxed: Sequence[Sample], cpu_seconds: float | None) -> AtThreshold:
    sun = sum(sample.is_sun(threshold) for sample in relaxed)
    return AtThreshold(
        threshold=threshold,
        stable=Share(k=sum(s.is_stable(threshold) for s in relaxed), n=len(relaxed)),
        sun=Share(k=sun, n=len(relaxed)),
        sun_per_cpu_hour=sun * SECONDS_PER_HOUR / cpu_seconds if cpu_seconds else None,
    )


def _n_rediscovered(samples: Sequence[Sample], field: str) -> int:
    return len({position for sample in samples for position in getattr(sample, field)})
