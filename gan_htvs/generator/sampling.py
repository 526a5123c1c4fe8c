"""Conditioned sampling: structures of one composition out of a trained generator.

Kim et al., ACS Cent. Sci. 2020, 6, 1412: condition on a composition, keep a sample only if the
classifier reads that composition from it, decode the rows that the classifier calls atoms, drop
what is geometrically invalid or a duplicate, go on until enough unique structures are found. Ours
is the soft-sphere push between decoding and the geometric check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Structure

from gan_htvs.declash import declash, pair_distances
from gan_htvs.errors import UserError
from gan_htvs.matching import UniqueStructures
from gan_htvs.pointcloud import DecodedCells, decode
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.generator.checkpoint import TrainedGenerator

_TOLERATED_DISTANCE = 0.85
"""Share of the declash distance that a pair must have kept after the push."""


@dataclass
class SampleResult:
    """What sampling found and why the rest was thrown away.

    Attributes
    ----------
    structures
        Valid and unique, declashed.
    raw_structures
        The same before the push.
    indices
        Which raw samples they are: with seed and composition, their origin.
    max_displacement
        How far the push moved an atom of each within its cell, A.
    reasons
        Rejections, counted.
    tried
        Raw samples looked at: those in ``structures`` and those counted in ``reasons``.
    wanted
        Unique structures asked for.
    """

    structures: list[Structure]
    raw_structures: list[Structure]
    indices: list[int]
    max_displacement: list[float]
    reasons: Counter[RejectionReason]
    tried: int
    wanted: int

    @property
    def gave_up(self) -> bool:
        """Whether the bound on tries came before the wanted number."""
        return len(self.structures) < self.wanted


def sample_composition(
    trained: TrainedGenerator,
    counts: Counts,
    n: int,
    *,
    seed: int,
    max_tries_per_structure: int = 200,
    oxidation_states: OxidationRanges | None = None,
    known: Iterable[Structure] = (),
    batch_size: int = 256,
) -> SampleResult:
    """Sample until ``n`` unique valid structures are found or the tries are used up.

    Parameters
    ----------
    trained
        Generator and classifier.
    counts
        Atoms per cell of each element.
    n
        Structures wanted.
    seed
        Decides all noise, together with ``batch_size``.
    max_tries_per_structure
        The bound is ``n`` times this many raw samples.
    oxidation_states
        Refuse a composition that these ranges cannot make neutral.
    known
        Structures that count as duplicates.
    batch_size
        Raw samples per pass through the networks.

    Raises
    ------
    UserError
        If the composition does not fit the generator or is not charge-neutral.
    """
    system = trained.system
    _check_request(counts, system, oxidation_states)
    unique = UniqueStructures(known)
    found = SampleResult([], [], [], [], Counter(), 0, n)
    rng = torch.Generator().manual_seed(seed)
    bound = n * max_tries_per_structure
    while found.tried < bound and found.gave_up:
        size = min(batch_size, bound - found.tried)
        cells, unread = _draw(trained, counts, size, rng)
        samples = [
            reason or structure
            for reason, structure in zip(unread, cells.to_structures(), strict=True)
        ]
        start = 0
        while start < size and found.gave_up:
            stop = _stop_after(samples, start, n - len(found.structures))
            _judge(samples[start:stop], system, unique, found)
            start = stop
    return found


def _stop_after(samples: list[Structure | RejectionReason], start: int, wanted: int) -> int:
    """End of the stretch from ``start`` with ``wanted`` structures in it.

    The push and the matching cost more than drawing, so no more is judged than may be needed.
    """
    for stop in range(start, len(samples)):
        wanted -= isinstance(samples[stop], Structure)
        if not wanted:
            return stop + 1
    return len(samples)


def _judge(
    samples: list[Structure | RejectionReason],
    system: ChemicalSystem,
    unique: UniqueStructures,
    found: SampleResult,
) -> None:
    """Push, check and compare the samples that are structures; write all down in ``found``."""
    raw = [sample for sample in samples if isinstance(sample, Structure)]
    pushed = declash(raw)
    closest = {
        pair: _TOLERATED_DISTANCE * distance
        for pair, distance in pair_distances(system.elements).items()
    }
    moved = iter(zip(raw, pushed.structures, pushed.max_displacement, strict=True))
    for sample in samples:
        index = found.tried
        found.tried += 1
        if isinstance(sample, RejectionReason):
            found.reasons[sample] += 1
            continue
        before, after, displacement = next(moved)
        reason = check_geometry(after, pair_distances=closest)
        if reason is None and not unique.add(after):
            reason = RejectionReason.DUPLICATE
        if reason is not None:
            found.reasons[reason] += 1
            continue
        found.structures.append(after)
        found.raw_structures.append(before)
        found.indices.append(index)
        found.max_displacement.append(float(displacement))


@torch.no_grad()
def _draw(
    trained: TrainedGenerator, counts: Counts, size: int, rng: torch.Generator
) -> tuple[DecodedCells, list[RejectionReason | None]]:
    """Generate and read ``size`` samples: cells, and why the classifier refuses each."""
    system = trained.system
    asked = torch.tensor([counts]).expand(size, -1)
    noise = torch.randn(size, trained.parameters.noise_dim, generator=rng)
    images = trained.generator(noise, asked)
    readings = trained.classifier(images)
    read = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
    refused: list[RejectionReason | None] = [
        None if agrees else RejectionReason.WRONG_COMPOSITION
        for agrees in (read == asked).all(dim=1).tolist()
    ]
    presence = torch.cat([reading.atoms.argmax(dim=2) for reading in readings], dim=1).bool()
    cells = decode(images.numpy(), system, presence=presence.numpy())
    for i in np.flatnonzero((cells.counts != np.array(counts)).any(axis=1)):
        empty = (cells.counts[i] == 0).any()
        rows = RejectionReason.EMPTY_ELEMENT if empty else RejectionReason.WRONG_ATOM_ROWS
        refused[i] = refused[i] or rows
    return cells, refused


def _check_request(
    counts: Counts, system: ChemicalSystem, oxidation_states: OxidationRanges | None
) -> None:
    if len(counts) != len(system.elements) or not all(
        1 <= count <= cap for count, cap in zip(counts, system.max_counts, strict=False)
    ):
        raise UserError(
            f"composition {counts}: needs 1 to the cap of each of "
            f"{', '.join(f'{s} {cap}' for s, cap in system.caps.items())}; change it or the caps."
        )
    if oxidation_states is not None and not system.is_charge_balanced(counts, oxidation_states):
        raise UserError(
            f"composition {system.formula(counts)}: no oxidation states within oxidation_states "
            "make it neutral; widen them or drop it."
        )
