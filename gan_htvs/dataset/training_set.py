"""The structures a generator learns from."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.dataset import arrays
from gan_htvs.dataset.decoration import decorate_prototypes
from gan_htvs.dataset.formal_charges import Ions
from gan_htvs.dataset.skipped import SURPLUS, UNSTABLE, Skipped
from gan_htvs.dataset.sources import (
    Collection,
    Sample,
    fetch_materials_project,
    read_folder,
    screen,
)
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import decode, encode
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gan_htvs.campaign.model import DatasetSettings
    from gan_htvs.core.chemical_system import OxidationRanges

__all__ = ["Collection", "Dataset", "build_dataset", "collect", "required"]

SourceT = TypeVar("SourceT", bound=Collection)

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
        (n, 2 + max_atoms, 3) float32, see :mod:`gan_htvs.structures.point_cloud`.
    counts
        (n, n_elements) int64: atoms of each element.
    labels
        Where each structure comes from: its prototype, or file and row.
    energies_above_hull
        (n,) eV/atom, where the source knows them.
    skipped
        What did not come in.
    """

    system: ChemicalSystem
    images: NDArray[np.float32]
    counts: NDArray[np.int64]
    labels: tuple[str, ...]
    energies_above_hull: NDArray[np.float64] | None = None
    skipped: Skipped = field(default_factory=Skipped)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def n_compositions(self) -> int:
        """Number of different cell formulas."""
        return len(np.unique(self.counts, axis=0))

    @cached_property
    def hash(self) -> str:
        """Content hash of what is learned from: the system and the images, in their order."""
        return content_hash("dataset", self.system, sha256(self.images.tobytes()).hexdigest())

    def boltzmann_weights(self, scale: float) -> NDArray[np.float64] | None:
        """Weigh structures by exp(-energy above hull / ``scale``), eV/atom.

        None where all count the same: with a scale of 0, or if the energies are not known.
        """
        if self.energies_above_hull is None or not scale:
            return None
        # exp(600) and exp(-600) are still finite and positive, as a weight must be.
        return np.exp(-np.clip(self.energies_above_hull / scale, -600.0, 600.0))

    def split(self, held_out: float) -> tuple[Dataset, Dataset]:
        """Part the structures to learn from and a share that is held out, by their content.

        Every composition keeps a structure to learn from. The energies of neither part change.
        """
        fraction = np.array(
            [int(sha256(image.tobytes()).hexdigest()[:8], 16) / 16**8 for image in self.images]
        )
        out = fraction < held_out
        _, group = np.unique(self.counts, axis=0, return_inverse=True)
        group = group.reshape(-1)
        for number in np.unique(group[out]):
            members = np.flatnonzero(group == number)
            if out[members].all():
                out[members[fraction[members].argmax()]] = False
        return self._subset(np.flatnonzero(~out)), self._subset(np.flatnonzero(out))

    def _subset(self, indices: NDArray[np.int64]) -> Dataset:
        energies = self.energies_above_hull
        return replace(
            self,
            images=self.images[indices],
            counts=self.counts[indices],
            labels=tuple(self.labels[i] for i in indices),
            energies_above_hull=None if energies is None else energies[indices],
        )

    def structures(self) -> list[Structure]:
        """Read the images back, in their order."""
        decoded = decode(self.images, self.system).to_structures()
        return [structure for structure in decoded if isinstance(structure, Structure)]

    def as_document(self) -> dict[str, Any]:
        """Pack what is learned from into a document of some hundred kB."""
        packed = io.BytesIO()
        np.savez_compressed(packed, images=self.images, counts=self.counts)
        return {
            "hash": self.hash,
            "caps": list(self.system.caps.items()),  # a mapping would lose the order of the rows
            "labels": list(self.labels),
            "arrays": base64.b64encode(packed.getvalue()).decode(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Dataset:
        """Unpack what :meth:`as_document` packed."""
        packed = io.BytesIO(base64.b64decode(document["arrays"]))
        with np.load(packed, allow_pickle=False) as arrays:
            images, counts = arrays["images"], arrays["counts"]
        system = ChemicalSystem(caps=dict(document["caps"]))
        return cls(system, images, counts, tuple(document["labels"]))

    def summary(self) -> dict[str, int | dict[str, int]]:
        """Count structures, compositions and what was rejected, for logs and provenance."""
        return {
            "structures": len(self),
            "compositions": self.n_compositions,
            "rejected": self.skipped.by_reason,
        }


def build_dataset(
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    settings: DatasetSettings,
    *,
    on_progress: Progress | None = None,
) -> Dataset:
    """Collect structures from the source that the settings name.

    The same arguments give the same dataset, bit for bit (as long as the database of the
    'materials_project' source stays the same).

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
    found = collect(system, oxidation_states, settings, on_progress=on_progress)
    if energies := found.energies_above_hull:
        near = [i for i, energy in enumerate(energies) if energy <= settings.max_energy_above_hull]
        found = required(found.subset(near, UNSTABLE), system, settings)
    chosen = _spread([system.counts(s) for s in found.structures], settings.max_structures)
    found = found.subset(chosen, SURPLUS)
    counts = [system.counts(structure) for structure in found.structures]
    return Dataset(
        system=system,
        images=encode(found.structures, system),
        counts=np.array(counts, dtype=np.int64),
        labels=tuple(found.labels),
        energies_above_hull=np.array(found.energies_above_hull) if energies else None,
        skipped=found.skipped,
    )


def collect(
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    settings: DatasetSettings,
    *,
    on_progress: Progress | None = None,
) -> Collection:
    """Collect the unique structures of a source, of any energy; see :func:`build_dataset`."""
    if settings.source == "prototypes":
        ions = Ions(system, oxidation_states)
        limit = settings.max_per_composition
        found = decorate_prototypes(ions, max_per_composition=limit, on_progress=on_progress)
    else:
        found = screen(_samples(system, settings), system, oxidation_states)
    if settings.source != "shipped":  # which was made unique
        unique = unique_indices(found.structures)
        found = found.subset(unique, RejectionReason.DUPLICATE)
    return required(found, system, settings)


def _samples(system: ChemicalSystem, settings: DatasetSettings) -> Iterable[Sample]:
    """Read the source that the settings name."""
    if settings.source == "shipped":
        return arrays.read_array(arrays.SHIPPED, system)
    if settings.path is None:
        return fetch_materials_project(system, settings.max_energy_above_hull)
    if settings.source == "folder":
        return read_folder(settings.path)
    return arrays.read_array(settings.path, system)


def required(found: SourceT, system: ChemicalSystem, settings: DatasetSettings) -> SourceT:
    """Return a collection, or raise a UserError if nothing is left of its source."""
    if not found.structures:
        left_out = str(found.skipped)
        why = f"left out were {left_out}" if left_out else "it holds nothing of it at all"
        raise UserError(
            f"dataset.source {settings.source!r} has no sound, charge-balanced structure of "
            f"{system.chemsys}; {why}: {found.skipped.fix}, or use another source."
        )
    return found


def _spread(counts: Sequence[tuple[int, ...]], limit: int) -> list[int]:
    """Choose up to ``limit`` positions, evenly over compositions; ascending."""
    by_counts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, key in enumerate(counts):
        by_counts[key].append(i)
    rounds = zip_longest(*(by_counts[key] for key in sorted(by_counts)))
    in_turn = [i for turn in rounds for i in turn if i is not None]
    return sorted(in_turn[:limit])
