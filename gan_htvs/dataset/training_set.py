"""Training sets of a generator."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.dataset import arrays
from gan_htvs.dataset.decoration import decorate_prototypes
from gan_htvs.dataset.ions import Ions
from gan_htvs.dataset.polyanions import center_elements
from gan_htvs.dataset.skipped import SURPLUS, UNSTABLE, Skipped, source_notes
from gan_htvs.dataset.sources import (
    Collection,
    Sample,
    fetch_materials_project,
    read_folder,
    screen,
)
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import decode, encode
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gan_htvs.campaign.model import DatasetSettings
    from gan_htvs.core.chemical_system import OxidationRanges

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and their total."""


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
        Origin of each structure: its prototype, or file and row.
    energies_above_hull
        (n,) eV/atom, NaN where unknown; None if all are unknown.
    skipped
        Structures of the source that were skipped.
    notes
        What was changed when structures of the source were read, by label.
    n_found
        Number of structures that a campaign found, the last ones; see
        :mod:`gan_htvs.dataset.enlarging`. Their labels are the ids of candidates.
    """

    system: ChemicalSystem
    images: NDArray[np.float32]
    counts: NDArray[np.int64]
    labels: tuple[str, ...]
    energies_above_hull: NDArray[np.float64] | None = None
    skipped: Skipped = field(default_factory=Skipped)
    notes: Mapping[str, str] = field(default_factory=dict)
    n_found: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def n_compositions(self) -> int:
        """Number of different cell formulas."""
        return len(np.unique(self.counts, axis=0))

    @cached_property
    def hash(self) -> str:
        """Content hash of the system and the images, in order."""
        return content_hash("dataset", self.system, sha256(self.images.tobytes()).hexdigest())

    def boltzmann_weights(self, scale: float) -> NDArray[np.float64] | None:
        """Return the weights exp(-energy above hull / ``scale``), ``scale`` in eV/atom.

        None, for equal weights, if ``scale`` is 0 or all energies are unknown. Single structures of
        unknown energy have the weight of the highest known one.
        """
        if self.energies_above_hull is None or not scale:
            return None
        energies = np.nan_to_num(
            self.energies_above_hull, nan=float(np.nanmax(self.energies_above_hull))
        )
        # Weights must be finite and positive, as exp(600) and exp(-600) still are.
        return np.exp(-np.clip(energies / scale, -600.0, 600.0))

    def split(self, held_out: float) -> tuple[Dataset, Dataset]:
        """Split into a training set and a held-out fraction, chosen by content.

        Every composition keeps at least one training structure.
        """
        fraction = np.array(
            [int(sha256(image.tobytes()).hexdigest()[:8], 16) / 16**8 for image in self.images]
        )
        is_held_out = fraction < held_out
        _, group = np.unique(self.counts, axis=0, return_inverse=True)
        group = group.reshape(-1)
        for number in np.unique(group[is_held_out]):
            members = np.flatnonzero(group == number)
            if is_held_out[members].all():
                is_held_out[members[fraction[members].argmax()]] = False
        training, test = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        return self.subset(training), self.subset(test)

    def subset(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the structures with these indices, in their order."""
        energies = self.energies_above_hull
        return replace(
            self,
            images=self.images[indices],
            counts=self.counts[indices],
            labels=tuple(self.labels[i] for i in indices),
            energies_above_hull=None if energies is None else energies[indices],
        )

    def structures(self) -> list[Structure]:
        """Decode the images into structures, in order."""
        decoded = decode(self.images, self.system).to_structures()
        return [structure for structure in decoded if isinstance(structure, Structure)]

    def as_document(self) -> dict[str, Any]:
        """Return system, images, energies and labels as a document of some hundred kB."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"images": self.images, "counts": self.counts}
        if self.energies_above_hull is not None:
            arrays["energies_above_hull"] = self.energies_above_hull
        np.savez_compressed(buffer, **arrays)
        return {
            "hash": self.hash,
            "caps": list(self.system.caps.items()),  # a mapping would lose the order of the rows
            "labels": list(self.labels),
            "n_found": self.n_found,
            "arrays": base64.b64encode(buffer.getvalue()).decode(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Dataset:
        """Read a document of :meth:`as_document`."""
        buffer = io.BytesIO(base64.b64decode(document["arrays"]))
        with np.load(buffer, allow_pickle=False) as arrays:
            images, counts = arrays["images"], arrays["counts"]
            energies = arrays.get("energies_above_hull")
        system = ChemicalSystem(caps=dict(document["caps"]))
        labels = tuple(document["labels"])
        return cls(system, images, counts, labels, energies, n_found=document["n_found"])

    @property
    def source_notes(self) -> list[str]:
        """Sentences on skipped and changed structures of the source; empty: there are none."""
        return source_notes(self.skipped, self.notes)

    def summary(self) -> dict[str, Any]:
        """Count structures, compositions and rejections, for logs and provenance."""
        return {
            "structures": len(self),
            "compositions": self.n_compositions,
            "rejected": self.skipped.by_reason,
            "source_notes": self.source_notes if self.skipped.labels or self.notes else [],
        }


def build_dataset(
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    settings: DatasetSettings,
    *,
    geometry: GeometryLimits = CHEMISTRY,
    on_progress: Progress | None = None,
) -> Dataset:
    """Build the training set from the source in the settings.

    The result is reproducible bit for bit, except if the database behind the source
    'materials_project' changes.

    Parameters
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    settings
        Section ``dataset`` of campaign.yaml.
    geometry
        Limits for the structures.
    on_progress
        Called with the number of finished prototypes and their total.

    Raises
    ------
    UserError
        If the source cannot be read or has no valid structure of this chemical system.
    """
    collection = collect(
        system, oxidation_states, settings, geometry=geometry, on_progress=on_progress
    )
    if energies := collection.energies_above_hull:
        metastable = [
            i for i, energy in enumerate(energies) if energy <= settings.max_energy_above_hull
        ]
        collection = collection.subset(metastable, UNSTABLE)
        collection.require_structures(settings.source, system)
    chosen = _spread([system.counts(s) for s in collection.structures], settings.max_structures)
    collection = collection.subset(chosen, SURPLUS)
    counts = [system.counts(structure) for structure in collection.structures]
    return Dataset(
        system=system,
        images=encode(collection.structures, system),
        counts=np.array(counts, dtype=np.int64),
        labels=tuple(collection.labels),
        energies_above_hull=np.array(collection.energies_above_hull) if energies else None,
        skipped=collection.skipped,
        notes=collection.notes,
    )


def collect(
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    settings: DatasetSettings,
    *,
    geometry: GeometryLimits = CHEMISTRY,
    on_progress: Progress | None = None,
) -> Collection:
    """Collect the unique structures of a source at any energy; see :func:`build_dataset`."""
    if settings.source == "prototypes":
        ions = Ions(system, oxidation_states)
        limit = settings.max_per_composition
        collection = decorate_prototypes(
            ions, max_per_composition=limit, geometry=geometry, on_progress=on_progress
        )
        centers = center_elements(ions.cations)
        if centers and not collection.structures:
            raise UserError(
                f"dataset.source 'prototypes' has no prototype for the polyanions of "
                f"{', '.join(centers)} in {system.chemsys} (skipped: {collection.skipped}); raise "
                "the caps, or set dataset.source to 'folder' and give structures."
            )
        unique = unique_indices(collection.structures)
        collection = collection.subset(unique, RejectionReason.DUPLICATE)
    else:
        collection = screen(_samples(system, settings), system, oxidation_states, geometry)
        if settings.source != "shipped":  # already unique
            collection = collection.without_duplicates()
    collection.require_structures(settings.source, system)
    return collection


def _samples(system: ChemicalSystem, settings: DatasetSettings) -> Iterable[Sample]:
    """Read the source in the settings."""
    if settings.source == "materials_project":
        return fetch_materials_project(system, settings.max_energy_above_hull)
    path = settings.path or arrays.SHIPPED
    return read_folder(path) if settings.source == "folder" else arrays.read_array(path, system)


def _spread(counts: Sequence[tuple[int, ...]], limit: int) -> list[int]:
    """Choose up to ``limit`` indices, evenly over compositions; ascending."""
    by_counts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, key in enumerate(counts):
        by_counts[key].append(i)
    rounds = zip_longest(*(by_counts[key] for key in sorted(by_counts)))
    interleaved = [i for indices in rounds for i in indices if i is not None]
    return sorted(interleaved[:limit])
