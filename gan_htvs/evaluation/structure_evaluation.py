"""Evaluate structures: validity, stability after relaxation, novelty and diversity.

The measure is S.U.N. (Zeni et al., Nature 2025, 639, 624): the share of the structures sent to
relaxation that are *stable* (converged to a sound geometry, at most a threshold above the convex
hull), *unique* (match no more stable relaxed structure of the same source) and *novel* (match
neither a training structure nor a reference phase after relaxation).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.core.text import join_names
from gan_htvs.evaluation.evaluation_documents import METASTABLE, Evaluation, Outcome, Sample
from gan_htvs.evaluation.known_crystals import KnownCrystals
from gan_htvs.evaluation.measures import measure
from gan_htvs.evaluation.sample_sets import SampleSet
from gan_htvs.evaluation.structure_metrics import relaxation_rmsd
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.structures.fingerprint import Fingerprint
from gan_htvs.structures.matching import UniqueStructures
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.hull import ReferenceSet, missing_elements
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible
from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ase import Atoms
    from pymatgen.core import Structure

    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.evaluation.sample_sets import GeneratedStructure
    from gan_htvs.structures.geometry_limits import GeometryLimits
    from gan_htvs.thermodynamics.references import ReferencePhase

THRESHOLDS = (0.2, METASTABLE, 0.08, 0.0)
"""Energies above hull up to which structures count as stable, eV/atom."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the number done and the total."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Number of relaxations of an evaluation, and limits.

    Parameters
    ----------
    n_relaxed
        Number of structures of each composition that are relaxed, the first ones; None: all. 0:
        nothing is relaxed, and reference phases are not required.
    thresholds
        Energies above hull up to which structures count as stable, eV/atom.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`, eV/atom.
    """

    n_relaxed: int | None = None
    thresholds: Sequence[float] = THRESHOLDS
    lowest_decomposition_energy: float | None = None


def evaluate(
    structures: SampleSet | Iterable[Structure | Atoms],
    references: ReferenceSet | Sequence[ReferencePhase] | None = None,
    *,
    training: Iterable[Structure] = (),
    held_out: Iterable[Structure] = (),
    relaxations: Relaxations | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    on_progress: Progress = lambda _what, _done, _total: None,
) -> Evaluation:
    """Evaluate structures before relaxation, and after relaxation with an interatomic potential.

    Parameters
    ----------
    structures
        Structures of pymatgen or ASE, or the samples of a proposer
        (:func:`gan_htvs.evaluation.sample_sets.draw_samples`).
    references
        Energies of the reference phases at the level of theory of the potential, or phases to be
        relaxed, which are then not novel; None: the phases of the package.
    training
        Structures that are not novel.
    held_out
        Structures that can be rediscovered.
    relaxations
        Potential, number of processes and cache; None: CHGNet on one core, without a cache.
    settings
        Number of relaxations and limits.
    on_progress
        Called with the step, the number done and the total.

    Returns
    -------
    Measures with their samples, in the order of ``structures``.

    Raises
    ------
    UserError
        If there are no structures, the potential or the journal fails, or structures are to be
        relaxed and an element has no reference phase.

    Examples
    --------
    >>> from gan_htvs.evaluation import evaluate
    >>> evaluate(structures, training=known).overall.thresholds[1].sun  # doctest: +SKIP
    Share(k=3, n=20, value=0.15, interval=(0.052, 0.36))
    """
    relaxations = relaxations or Relaxations(PotentialSettings())
    if not isinstance(structures, SampleSet):
        structures = SampleSet.of(structures, geometry=relaxations.geometry)
    name, draws = structures.name, structures.draws
    chosen = _first_of_each(structures.samples, settings.n_relaxed)
    phases, energies = _references(references, structures.elements, is_required=bool(chosen))
    known = KnownCrystals([*training, *(phase.structure for phase in phases)], held_out)
    samples = _before_relaxation(structures, known)
    if chosen:
        progress = partial(on_progress, f"{name}: reference phases")
        energies = energies or relaxations.references(phases, on_progress=progress)
        progress = partial(on_progress, f"{name}: relaxing")
        valid = [i for i in chosen if samples[i].flaw is None]
        generated = [structures.samples[i].structure for i in valid]
        relaxed = relaxations.relax(generated, on_progress=progress)
        for i in set(chosen) - set(valid):
            samples[i].outcome = Outcome.INVALID
        for i, before, after in zip(valid, generated, relaxed, strict=True):
            _record(samples[i], before, after, energies, known, structures.geometry, settings)
        _mark_unique(samples)
    return Evaluation(
        proposer=name,
        chemsys="-".join(structures.elements),
        level_of_theory=relaxations.settings.level_of_theory,
        seed=structures.seed,
        n_samples=structures.n_samples,
        n_relaxed=settings.n_relaxed,
        reference_phases=energies.n_phases if energies and not phases else len(phases),
        training_structures=len(known) - len(phases),
        held_out_structures=len(known.held_out_cells),
        compositions=[
            measure(
                [draw],
                [s for s in samples if s.composition == draw.composition],
                settings.thresholds,
                held_out=known.held_out_cells.count(draw.cell),
                composition=draw.composition,
            )
            for draw in draws
        ],
        overall=measure(
            draws,
            samples,
            settings.thresholds,
            held_out=sum(known.held_out_cells.count(draw.cell) for draw in draws),
        ),
        draws=list(draws),
        samples=samples,
    )


def _first_of_each(samples: Sequence[GeneratedStructure], limit: int | None) -> list[int]:
    """Return the positions of the first samples of each composition."""
    seen: Counter[str] = Counter()
    chosen = []
    for i, one in enumerate(samples):
        if limit is None or seen[one.composition] < limit:
            chosen.append(i)
        seen[one.composition] += 1
    return chosen


def _references(
    references: ReferenceSet | Sequence[ReferencePhase] | None,
    elements: Sequence[str],
    *,
    is_required: bool,
) -> tuple[Sequence[ReferencePhase], ReferenceSet | None]:
    """Return the phases to relax and to compare with, or the energies of others."""
    phases: Sequence[ReferencePhase] = []
    if isinstance(references, ReferenceSet):
        compositions = [entry.composition for entry in references.entries]
    else:
        if references is None:
            with nullcontext() if is_required else suppress(UserError):
                phases = reference_phases(elements)
        else:
            phases = references
        compositions = [phase.structure.composition for phase in phases]
    if is_required and (missing := missing_elements(compositions, elements)):
        raise UserError(
            f"references: there is no elemental phase of {join_names(missing)}; add one, or remove "
            "the structures with this element."
        )
    return phases, references if isinstance(references, ReferenceSet) else None


def _before_relaxation(structures: SampleSet, known: KnownCrystals) -> list[Sample]:
    """Compare the samples with each other and with known crystals before relaxation."""
    seen: dict[str, UniqueStructures] = defaultdict(UniqueStructures)
    samples = []
    for one in structures.samples:
        sample = Sample(
            composition=one.composition,
            index=one.index,
            label=one.label,
            max_displacement=one.max_displacement,
            flaw=one.flaw,
        )
        if one.flaw is None:
            fingerprint = Fingerprint.from_structure(one.structure)
            earlier = len(seen[one.composition])
            sample.unique_as_generated = seen[one.composition].place(fingerprint) == earlier
            sample.novel_as_generated = known.is_novel(fingerprint)
            sample.rediscovers_as_generated = known.rediscovered(
                fingerprint, one.structure.composition
            )
        samples.append(sample)
    return samples


_OUTCOMES = {Stage.REJECTED: Outcome.HOLE, Stage.FAILED: Outcome.NOT_CONVERGED}


def _record(
    sample: Sample,
    before: Structure,
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
    sample.rmsd = relaxation_rmsd(before, relaxed.structure)
    sample.novel = known.is_novel(relaxed.structure)
    sample.rediscovers = known.rediscovered(relaxed.structure, relaxed.structure.composition)


def _mark_unique(samples: Sequence[Sample]) -> None:
    """Set ``unique`` of the sound samples: true for the most stable of matching ones."""
    sound = [sample for sample in samples if sample.outcome is Outcome.SOUND]
    seen = UniqueStructures()
    for candidate in sorted(sound, key=attrgetter("decomposition_energy")):
        candidate.unique = seen.add(candidate.structure)
