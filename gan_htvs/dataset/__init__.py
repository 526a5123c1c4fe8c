"""The structures a generator learns from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.dataset.arrays import import_array
from gan_htvs.dataset.decoration import decorate_prototypes
from gan_htvs.dataset.deduplication import distinct_indices
from gan_htvs.errors import UserError
from gan_htvs.identity import content_hash
from gan_htvs.pointcloud import encode
from gan_htvs.validity import RejectionReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gan_htvs.campaign import DatasetSettings
    from gan_htvs.chemistry import ChemicalSystem, OxidationRanges

__all__ = ["Dataset", "build_dataset"]

LEFT_OUT = "max_structures"
"""Reason of structures that are sound and unique, but more than were asked for."""

Progress = Callable[[int, int], None]
"""Called with the number of steps done and their total."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Unique structures as images.

    Attributes
    ----------
    system
        Elements and caps.
    images
        (n, 2 + max_atoms, 3) float32, see :mod:`gan_htvs.pointcloud`.
    counts
        (n, n_elements) int64: atoms of each element.
    labels
        Where each structure comes from: its prototype, or file and row.
    rejected
        Number of structures that did not come in, by reason.
    """

    system: ChemicalSystem
    images: NDArray[np.float32]
    counts: NDArray[np.int64]
    labels: tuple[str, ...]
    rejected: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def n_compositions(self) -> int:
        """Number of different cell formulas."""
        return len(np.unique(self.counts, axis=0))

    @cached_property
    def hash(self) -> str:
        """Content hash of what is learnt from: the system and the images, in their order."""
        return content_hash("dataset", self.system, sha256(self.images.tobytes()).hexdigest())

    def summary(self) -> dict[str, int | dict[str, int]]:
        """Count structures, compositions and what was rejected, for logs and provenance."""
        return {
            "structures": len(self),
            "compositions": self.n_compositions,
            "rejected": dict(self.rejected),
        }


def build_dataset(
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    settings: DatasetSettings,
    *,
    on_progress: Progress | None = None,
) -> Dataset:
    """Collect structures from the source that the settings name.

    The same arguments give the same dataset, bit for bit.

    Parameters
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    settings
        The section ``dataset`` of campaign.yaml.
    on_progress
        Called with the number of prototypes done and their total.

    Raises
    ------
    UserError
        If the source cannot be read or has no structure of this chemical system.
    """
    rejected: Counter[str]
    if settings.path is not None:
        structures, labels, rejected = import_array(settings.path, system, oxidation_states)
        unique = list(range(len(structures)))
    else:
        candidates, rejected = decorate_prototypes(
            system, oxidation_states, on_progress=on_progress
        )
        structures = [candidate.structure for candidate in candidates]
        labels = [candidate.prototype for candidate in candidates]
        unique = distinct_indices(structures, lattices=labels)
        rejected[RejectionReason.DUPLICATE] += len(structures) - len(unique)
    if not structures:
        raise UserError(
            f"dataset.source {settings.source!r} has no sound, charge-balanced structure of "
            f"{system.chemsys}: raise the caps, widen oxidation_states, or use another source."
        )
    chosen = _spread([system.counts(structures[i]) for i in unique], settings.max_structures)
    rejected[LEFT_OUT] += len(unique) - len(chosen)
    kept = [structures[unique[k]] for k in chosen]
    return Dataset(
        system=system,
        images=encode(kept, system),
        counts=np.array([system.counts(structure) for structure in kept], dtype=np.int64),
        labels=tuple(labels[unique[k]] for k in chosen),
        rejected={str(reason): n for reason, n in sorted(rejected.items()) if n},
    )


def _spread(counts: Sequence[tuple[int, ...]], limit: int) -> list[int]:
    """Choose up to ``limit`` positions, evenly over compositions; ascending."""
    by_counts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, key in enumerate(counts):
        by_counts[key].append(i)
    rounds = zip_longest(*(by_counts[key] for key in sorted(by_counts)))
    in_turn = [i for turn in rounds for i in turn if i is not None]
    return sorted(in_turn[:limit])
