"""Sample unique structures from any proposer.

Kim et al., ACS Cent. Sci. 2020, 6, 1412, drop geometrically invalid structures and duplicates
and continue until enough unique structures of a composition are found. Overlap removal before the
geometric check, the bound on tries, the comparison with known crystals and the choice by energy are
additions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import format_caps
from gan_htvs.core.errors import UserError
from gan_htvs.structures.declash import declash
from gan_htvs.structures.matching import UniqueStructures
from gan_htvs.structures.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.proposers.proposer import Proposer, RawSample
    from gan_htvs.structures.matching import StructureIndex

_BATCH_SIZE = 16
"""Raw samples declashed in one batch."""

_TOLERATED_DISTANCE = 0.85
"""Fraction of the declash distance that every pair must reach after overlap removal."""


@dataclass(frozen=True)
class SampledStructure:
    """A structure after overlap removal.

    Attributes
    ----------
    index
        Number of the raw sample; with proposer, seed and composition, it identifies the structure.
    structure, raw
        The structure after and before overlap removal.
    max_displacement
        Largest displacement of an atom within the cell by overlap removal, A; without the moves
        that assemble polyanions.
    is_remade
        Whether overlap removal moved the atoms so far that the raw sample is lost.
    """

    index: int
    structure: Structure
    raw: Structure
    max_displacement: float
    is_remade: bool


@dataclass(frozen=True)
class BestOf:
    """Keep only the structure of lowest energy of each group of consecutive ones.

    Attributes
    ----------
    size
        Structures in a group.
    energies
        Computes energies of structures of one composition, eV/atom, (n,), or another estimate.
    """

    size: int
    energies: Callable[[Sequence[Structure]], NDArray[np.float64]]

    def lowest(self, group: Sequence[SampledStructure]) -> SampledStructure:
        """Return the structure of lowest energy."""
        return group[int(np.argmin(self.energies([one.structure for one in group])))]


@dataclass
class SampleResult:
    """Accepted structures, and rejections by reason.

    Attributes
    ----------
    samples
        Valid, unique structures after overlap removal.
    reasons
        Number of rejections by reason.
    exhausted
        Whether the proposer ran out of raw samples.
    """

    samples: list[SampledStructure] = field(default_factory=list)
    reasons: Counter[RejectionReason] = field(default_factory=Counter)
    exhausted: bool = False

    def add(self, group: Sequence[SampledStructure], best_of: BestOf | None) -> None:
        """Add all structures of a group, or only the one of lowest energy."""
        kept = [best_of.lowest(group)] if best_of and group else group
        self.samples += kept
        if len(group) > len(kept):
            self.reasons[RejectionReason.HIGHER_ENERGY] += len(group) - len(kept)

    @property
    def structures(self) -> list[Structure]:
        """Structures of the samples."""
        return [sampled.structure for sampled in self.samples]

    @property
    def tried(self) -> int:
        """Number of raw samples tried."""
        return len(self.samples) + self.reasons.total()

    @property
    def acceptance(self) -> float:
        """Fraction of the raw samples that was accepted; 0 without samples."""
        return len(self.samples) / max(self.tried, 1)


def composition_rng(seed: int, counts: Counts) -> np.random.Generator:
    """Return the random number generator of one composition, independent of the others."""
    return np.random.default_rng([seed, *counts])


def sample(
    proposer: Proposer,
    counts: Counts,
    n: int,
    *,
    seed: int,
    max_tries_per_structure: int = 200,
    oxidation_states: OxidationRanges | None = None,
    best_of: BestOf | None = None,
    known: StructureIndex | None = None,
    on_raw: Callable[[RawSample], None] = lambda _raw: None,
) -> SampleResult:
    """Sample until ``n`` unique valid structures are found, or tries or proposals run out.

    Parameters
    ----------
    proposer
        Source of the raw samples.
    counts
        Atoms per cell of each element.
    n
        Number of structures; a larger ``n`` returns the same ones first.
    seed
        Random seed; with ``counts`` it determines the result.
    max_tries_per_structure
        At most ``n`` times this many raw samples are tried.
    oxidation_states
        Raise an error if the composition cannot be neutral within these ranges.
    best_of
        Of each group of unique valid structures, keep that of lowest energy; None: keep all.
    known
        Crystals that are not sampled again.
    on_raw
        Called with every raw sample that is tried.

    Raises
    ------
    UserError
        If the composition does not fit the system of the proposer or is not charge-neutral.
    """
    _check_request(counts, proposer.system, oxidation_states)
    unique = UniqueStructures()
    result = SampleResult()
    group: list[SampledStructure] = []
    raw = proposer.raw_samples(counts, composition_rng(seed, counts))
    for before, after in _declashed(raw, proposer):
        on_raw(before)
        if isinstance(after, RejectionReason):
            result.reasons[after] += 1
        elif not unique.add(after.structure):
            result.reasons[RejectionReason.DUPLICATE] += 1
        elif known is not None and known.first(after.structure) is not None:
            result.reasons[RejectionReason.KNOWN] += 1
        else:
            group.append(after)
        if best_of is None or len(group) == best_of.size:
            result.add(group, best_of)
            group = []
        if result.tried + len(group) == n * max_tries_per_structure or len(result.samples) == n:
            break
    else:
        result.exhausted = True
        result.add(group, best_of)  # no further structure can complete the group
        return result
    # With more tries, the group could have another structure of lower energy.
    if group:
        result.reasons[RejectionReason.INCOMPLETE_GROUP] += len(group)
    return result


def _declashed(
    raw: Iterator[RawSample], proposer: Proposer
) -> Iterator[tuple[RawSample, SampledStructure | RejectionReason]]:
    """Yield raw samples with the declashed structure or the rejection reason.

    The size of a batch does not depend on the number of structures: rounding depends on the batch,
    and overlap removal amplifies it where it breaks a symmetric configuration.
    """
    closest = {
        pair: _TOLERATED_DISTANCE * distance
        for pair, distance in proposer.geometry.overlaps_below(proposer.system.elements).items()
    }
    numbered = enumerate(raw)
    while batch := list(islice(numbered, _BATCH_SIZE)):
        crystals = [
            proposer.assemble(crystal) for _, crystal in batch if isinstance(crystal, Structure)
        ]
        result = declash(
            crystals,
            proposer.geometry,
            scales=proposer.scales,
            shrinks_loose=proposer.shrinks_loose,
        )
        assembled = map(proposer.assemble, result.structures)
        displacements, remade = result.max_displacement.tolist(), result.is_remade.tolist()
        declashed = zip(assembled, displacements, remade, strict=True)
        for index, before in batch:
            if isinstance(before, RejectionReason):
                yield before, before
                continue
            after, max_displacement, is_remade = next(declashed)
            flaw = check_geometry(after, proposer.geometry, pair_distances=closest)
            sampled = SampledStructure(index, after, before, max_displacement, is_remade)
            yield before, flaw.reason if flaw else sampled


def _check_request(
    counts: Counts, system: ChemicalSystem, oxidation_states: OxidationRanges | None
) -> None:
    if len(counts) != len(system.elements) or not all(
        1 <= count <= cap for count, cap in zip(counts, system.max_counts, strict=False)
    ):
        raise UserError(
            f"composition {counts}: needs 1 to the cap of each element "
            f"({format_caps(system.caps.items())}); change the composition or the caps."
        )
    if oxidation_states is not None and not system.is_charge_balanced(counts, oxidation_states):
        raise UserError(
            f"composition {system.formula(counts)}: it cannot be charge-neutral within "
            "oxidation_states; widen them or remove the composition."
        )
