"""What a proposer is worth: its samples before relaxation, and after.

The field's measure is S.U.N. (Zeni et al., Nature 2025, 639, 624): the share of the structures
sent to relaxation that are *stable* (at most a threshold above the convex hull, geometry sound and
relaxation converged), *unique* (match no more stable relaxed structure of the same proposer) and
*novel* (match neither a training structure nor a known phase, after relaxation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from gan_htvs.assessment import Judge
from gan_htvs.candidate import Stage
from gan_htvs.errors import UserError
from gan_htvs.evaluation.documents import (
    Draw,
    Evaluation,
    Fate,
    Measures,
    Published,
    Report,
    Sample,
    Share,
)
from gan_htvs.evaluation.known import Shelf
from gan_htvs.evaluation.measures import mark_unique, measure
from gan_htvs.proposers.gan import BATCH_SIZE, GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.thermodynamics.references import reference_phases
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gan_htvs.candidate import Relaxed
    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.dataset import Dataset
    from gan_htvs.proposers import Proposer, RawSample
    from gan_htvs.proposers.sampling import SampleResult
    from gan_htvs.relaxation import Relaxations
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase

__all__ = ["Evaluation", "Measures", "Published", "Report", "Sample", "Share", "evaluate"]

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
        The first so many of them are relaxed; 0: none, and no known phase either, so that the
        chemical system may be one of which no phases are known.
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

    phases = known_phases
    if phases is None:
        phases = _known_phases(system, required=n_relaxed > 0)
    shelf = Shelf(training, held_out, phases)
    compositions = list(dict.fromkeys(compositions))
    draws: list[Draw] = []
    samples: list[Sample] = []
    to_relax: list[tuple[Sample, Structure]] = []
    for done, counts in enumerate(compositions):
        told("sampling")(done, len(compositions))
        recorder = _Recorder(proposer, counts)
        found = sample(
            recorder,
            counts,
            n_samples,
            seed=seed,
            max_tries_per_structure=max_tries_per_structure,
            oxidation_states=oxidation_states,
        )
        draws.append(_draw(found, recorder, oxidation_states, shelf))
        new = _samples(found, counts, shelf)
        samples += new
        to_relax += list(zip(new, found.structures, strict=True))[:n_relaxed]
    told("sampling")(len(compositions), len(compositions))
    if to_relax:
        references = relaxations.references(phases, on_progress=told("known phases"))
        relaxed = relaxations.relax(
            [structure for _, structure in to_relax], on_progress=told("relaxing")
        )
        for (one, _), result in zip(to_relax, relaxed, strict=True):
            _record(one, result, references, shelf)
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


_FATES = {Stage.REJECTED: Fate.HOLE, Stage.FAILED: Fate.NOT_CONVERGED}


class _Recorder:
    """A proposer that keeps what it proposed of one composition."""

    def __init__(self, proposer: Proposer, counts: Counts) -> None:
        self.name = proposer.name
        self.system = proposer.system
        self.volume_per_atom = proposer.volume_per_atom
        self.samples: list[RawSample] = []
        self.proposer = proposer
        self.counts = counts
        self._rng = np.random.default_rng()

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        self._rng = deepcopy(rng)
        for raw in self.proposer.raw_samples(counts, rng):
            self.samples.append(raw)
            yield raw

    def n_balanced(self, n: int, oxidation_states: OxidationRanges) -> int:
        """Count, of the first ``n`` raw samples, those with atoms that can be neutral.

        Only a generator makes other atoms than it was asked for.
        """
        if not isinstance(self.proposer, GanProposer):
            return n * self.system.is_charge_balanced(self.counts, oxidation_states)
        balanced = 0
        for start in range(0, n, BATCH_SIZE):
            cells, _ = self.proposer.read_batch(self.counts, self._rng)
            balanced += sum(
                min(atoms) > 0 and self.system.is_charge_balanced(tuple(atoms), oxidation_states)
                for atoms in cells.counts[: n - start].tolist()
            )
        return balanced


def _draw(
    found: SampleResult, recorder: _Recorder, oxidation_states: OxidationRanges, shelf: Shelf
) -> Draw:
    counts = recorder.counts
    raw = recorder.samples[: found.tried]
    is_read = (
        isinstance(recorder.proposer, GanProposer)
        and recorder.proposer.trained.classifier is not None
    )
    crystals = [one for one in raw if isinstance(one, Structure)]
    problems = Counter(filter(None, map(check_geometry, crystals)))
    return Draw(
        composition=shelf.system.formula(counts),
        wanted=found.wanted,
        tried=found.tried,
        exhausted=found.exhausted,
        read=found.tried - found.reasons[RejectionReason.WRONG_COMPOSITION] if is_read else None,
        balanced=recorder.n_balanced(found.tried, oxidation_states),
        decoded=len(crystals),
        before_push={str(reason): n for reason, n in sorted(problems.items())},
        rejections={str(reason): n for reason, n in sorted(found.reasons.items())},
        held_out=shelf.n_held_out(counts),
    )


def _samples(found: SampleResult, counts: Counts, shelf: Shelf) -> list[Sample]:
    return [
        Sample(
            composition=shelf.system.formula(counts),
            index=index,
            max_displacement=displacement,
            novel_as_generated=shelf.is_novel(structure),
            rediscovers_as_generated=shelf.rediscovered(structure),
        )
        for structure, index, displacement in zip(
            found.structures, found.indices, found.max_displacement, strict=True
        )
    ]


def _record(one: Sample, relaxed: Relaxed | None, references: ReferenceSet, shelf: Shelf) -> None:
    """Write down what a relaxation made of a sample; ``unique`` needs all of them."""
    if relaxed is None:
        one.fate = Fate.FAILED
        return
    one.n_steps = relaxed.n_steps
    one.cpu_seconds = relaxed.cpu_seconds
    one.volume_change = relaxed.volume_change
    if (problem := Judge.soundness(relaxed)) is not None:
        one.fate = _FATES[problem[0]]
        return
    references.check_level(relaxed.level_of_theory)
    above_hull = references.energy_above_hull(
        relaxed.structure.composition, relaxed.energy_per_atom
    )
    one.energy_per_atom = relaxed.energy_per_atom
    if not Judge.believes(above_hull):
        one.fate = Fate.UNBELIEVABLE
        return
    one.fate = Fate.SOUND
    one.structure = relaxed.structure
    one.energy_above_hull = above_hull
    one.novel = shelf.is_novel(relaxed.structure)
    one.rediscovers = shelf.rediscovered(relaxed.structure)
