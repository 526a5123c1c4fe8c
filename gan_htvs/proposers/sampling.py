"""From raw samples to unique structures: one path for whatever proposes.

Kim et al., ACS Cent. Sci. 2020, 6, 1412, drop what is geometrically invalid or a duplicate and go
on until enough unique structures of a composition are found. Ours are the soft-sphere push before
the geometric check and the bound on tries.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import spell_caps
from gan_htvs.core.errors import UserError
from gan_htvs.structures.declash import declash, pair_distances
from gan_htvs.structures.matching import UniqueStructures
from gan_htvs.structures.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.proposers.proposer import Proposer, RawSample

_BLOCK = 16
"""Raw samples pushed together."""

_TOLERATED_DISTANCE = 0.85
"""Share of the declash distance that a pair must have kept after the push."""


@dataclass(frozen=True)
class SampledStructure:
    """A structure after the push.

    Attributes
    ----------
    index
        Which raw sample it is: with proposer, seed and composition, its origin.
    structure, raw
        After the push, and before it.
    max_displacement
        How far the push moved an atom within the cell, A.
    is_remade
        Whether the push left nothing of the raw sample.
    """

    index: int
    structure: Structure
    raw: Structure
    max_displacement: float
    is_remade: bool


@dataclass
class SampleResult:
    """What sampling found and why the rest was thrown away.

    Attributes
    ----------
    samples
        Valid, unique and declashed.
    reasons
        Rejections, counted.
    exhausted
        Whether the proposer had no more.
    """

    samples: list[SampledStructure] = field(default_factory=list)
    reasons: Counter[RejectionReason] = field(default_factory=Counter)
    exhausted: bool = False

    @property
    def structures(self) -> list[Structure]:
        """The structures of the samples."""
        return [each.structure for each in self.samples]

    @property
    def tried(self) -> int:
        """Raw samples looked at."""
        return len(self.samples) + self.reasons.total()

    @property
    def acceptance(self) -> float:
        """Share of the raw samples that were taken; 0 if there were none."""
        return len(self.samples) / max(self.tried, 1)


def composition_rng(seed: int, counts: Counts) -> np.random.Generator:
    """Make the random numbers of one composition, which no other composition shares."""
    return np.random.default_rng([seed, *counts])


def sample(
    proposer: Proposer,
    counts: Counts,
    n: int,
    *,
    seed: int,
    max_tries_per_structure: int = 200,
    oxidation_states: OxidationRanges | None = None,
    on_raw: Callable[[RawSample], None] = lambda _raw: None,
) -> SampleResult:
    """Sample until ``n`` unique valid structures are found, or the tries or proposals end.

    Parameters
    ----------
    proposer
        Where the raw samples come from.
    counts
        Atoms per cell of each element.
    n
        Structures wanted; more of them begin with the same ones.
    seed
        Decides, with ``counts``, all that is random.
    max_tries_per_structure
        The bound is ``n`` times this many raw samples.
    oxidation_states
        Refuse a composition that these ranges cannot make neutral.
    on_raw
        Called with every raw sample that is looked at.

    Raises
    ------
    UserError
        If the composition does not fit the system of the proposer or is not charge-neutral.
    """
    _check_request(counts, proposer.system, oxidation_states)
    unique = UniqueStructures()
    result = SampleResult()
    raw = proposer.raw_samples(counts, composition_rng(seed, counts))
    for before, after in _pushed(raw, proposer):
        on_raw(before)
        if isinstance(after, RejectionReason):
            result.reasons[after] += 1
        elif unique.add(after.structure):
            result.samples.append(after)
        else:
            result.reasons[RejectionReason.DUPLICATE] += 1
        if result.tried == n * max_tries_per_structure or len(result.samples) == n:
            return result
    result.exhausted = True
    return result


def _pushed(
    raw: Iterator[RawSample], proposer: Proposer
) -> Iterator[tuple[RawSample, SampledStructure | RejectionReason]]:
    """Yield raw samples and what the push and the geometric check make of them.

    They are pushed in blocks that do not depend on how many are wanted: rounding depends on the
    block, and a push out of a symmetric arrangement makes much of it.
    """
    closest = {
        pair: _TOLERATED_DISTANCE * distance
        for pair, distance in pair_distances(proposer.system.elements).items()
    }
    numbered = enumerate(raw)
    while block := list(islice(numbered, _BLOCK)):
        crystals = [each for _, each in block if isinstance(each, Structure)]
        pushed = declash(crystals, volume_per_atom=proposer.volume_per_atom)
        moved = zip(pushed.max_displacement.tolist(), pushed.is_remade.tolist(), strict=True)
        results = iter(zip(pushed.structures, moved, strict=True))
        for index, before in block:
            if isinstance(before, RejectionReason):
                yield before, before
                continue
            after, push = next(results)
            reason = check_geometry(after, pair_distances=closest)
            yield before, reason or SampledStructure(index, after, before, *push)


def _check_request(
    counts: Counts, system: ChemicalSystem, oxidation_states: OxidationRanges | None
) -> None:
    if len(counts) != len(system.elements) or not all(
        1 <= count <= cap for count, cap in zip(counts, system.max_counts, strict=False)
    ):
        raise UserError(
            f"composition {counts}: needs 1 to the cap of each of "
            f"{spell_caps(system.caps.items())}; change it or the caps."
        )
    if oxidation_states is not None and not system.is_charge_balanced(counts, oxidation_states):
        raise UserError(
            f"composition {system.formula(counts)}: no oxidation states within oxidation_states "
            "make it neutral; widen them or drop it."
        )
