"""From raw samples to unique structures: one path for whatever proposes.

Kim et al., ACS Cent. Sci. 2020, 6, 1412, drop what is geometrically invalid or a duplicate and go
on until enough unique structures of a composition are found. Ours are the soft-sphere push before
the geometric check and the bound on tries.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pymatgen.core import Structure

from gan_htvs.chemistry import spell_caps
from gan_htvs.declash import declash, pair_distances
from gan_htvs.errors import UserError
from gan_htvs.matching import UniqueStructures
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.proposers import Proposer, ProposerName, RawSample

_BLOCK = 16
"""Raw samples pushed together."""

_TOLERATED_DISTANCE = 0.85
"""Share of the declash distance that a pair must have kept after the push."""


@dataclass
class SampleResult:
    """What sampling found and why the rest was thrown away.

    Attributes
    ----------
    proposer
        What the raw samples come from.
    wanted
        Unique structures asked for.
    structures
        Valid and unique, declashed.
    raw_structures
        The same before the push.
    indices
        Which raw samples they are: with proposer, seed and composition, their origin.
    max_displacement
        How far the push moved an atom of each within its cell, A.
    is_remade
        Whether the push left nothing of the raw sample.
    reasons
        Rejections, counted.
    tried
        Raw samples looked at: those in ``structures`` and those counted in ``reasons``.
    exhausted
        Whether the proposer had no more.
    """

    proposer: ProposerName
    wanted: int
    structures: list[Structure] = field(default_factory=list)
    raw_structures: list[Structure] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    max_displacement: list[float] = field(default_factory=list)
    is_remade: list[bool] = field(default_factory=list)
    reasons: Counter[RejectionReason] = field(default_factory=Counter)
    tried: int = 0
    exhausted: bool = False

    def record(
        self, before: RawSample, after: RawSample, push: Push, unique: UniqueStructures
    ) -> None:
        """Count one raw sample, and take it in if it is valid and new."""
        if isinstance(after, Structure) and not unique.add(after):
            after = RejectionReason.DUPLICATE
        if isinstance(before, Structure) and isinstance(after, Structure):
            self.structures.append(after)
            self.raw_structures.append(before)
            self.indices.append(self.tried)
            self.max_displacement.append(push.max_displacement)
            self.is_remade.append(push.is_remade)
        else:
            self.reasons[after] += 1
        self.tried += 1

    @property
    def gave_up(self) -> bool:
        """Whether the bound on tries or the end of the proposals came before the wanted number."""
        return len(self.structures) < self.wanted

    @property
    def acceptance(self) -> float:
        """Share of the raw samples that were taken; 0 if there were none."""
        return len(self.structures) / max(self.tried, 1)

    def report(self) -> dict[str, Any]:
        """Tell in plain values how the sampling went."""
        return {
            "proposer": self.proposer.value,
            "requested": self.wanted,
            "found": len(self.structures),
            "tried": self.tried,
            "acceptance": self.acceptance,
            "rejections": {reason.value: n for reason, n in self.reasons.most_common()},
            "exhausted": self.exhausted,
        }


def sample(
    proposer: Proposer,
    counts: Counts,
    n: int,
    *,
    seed: int,
    max_tries_per_structure: int = 200,
    oxidation_states: OxidationRanges | None = None,
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

    Raises
    ------
    UserError
        If the composition does not fit the system of the proposer or is not charge-neutral.
    """
    _check_request(counts, proposer.system, oxidation_states)
    unique = UniqueStructures()
    found = SampleResult(proposer.name, n)
    bound = n * max_tries_per_structure
    raw = proposer.raw_samples(counts, np.random.default_rng([seed, *counts]))
    for before, after, push in _pushed(raw, proposer):
        found.record(before, after, push, unique)
        if found.tried == bound or not found.gave_up:
            return found
    found.exhausted = True
    return found


class Push(NamedTuple):
    """What the push did to one structure; see :class:`gan_htvs.declash.DeclashResult`."""

    max_displacement: float
    is_remade: bool


NO_PUSH = Push(0.0, is_remade=False)


def _pushed(
    raw: Iterator[RawSample], proposer: Proposer
) -> Iterator[tuple[RawSample, RawSample, Push]]:
    """Yield raw samples, what the push and the geometric check make of them, and the push.

    They are pushed in blocks that do not depend on how many are wanted: rounding depends on the
    block, and a push out of a symmetric arrangement makes much of it.
    """
    closest = {
        pair: _TOLERATED_DISTANCE * distance
        for pair, distance in pair_distances(proposer.system.elements).items()
    }
    while block := list(islice(raw, _BLOCK)):
        crystals = [each for each in block if isinstance(each, Structure)]
        pushed = declash(crystals, volume_per_atom=proposer.volume_per_atom)
        moved = map(Push, pushed.max_displacement.tolist(), pushed.is_remade.tolist())
        results = iter(zip(pushed.structures, moved, strict=True))
        for each in block:
            if isinstance(each, RejectionReason):
                yield each, each, NO_PUSH
                continue
            after, push = next(results)
            reason = check_geometry(after, pair_distances=closest)
            yield each, reason or after, push


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
