"""Sources of training structures. Every source is screened into a :class:`Collection`."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.core.mp_client import open_client
from gan_htvs.dataset.skipped import MISFIT, NO_STRUCTURE, TOO_LONG, UNREADABLE, Skipped
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.matching import duplicates_of_one_phase
from gan_htvs.structures.point_cloud import LENGTH_SCALE
from gan_htvs.structures.poscar import NoStructureFileError
from gan_htvs.structures.structure_files import parse_folder
from gan_htvs.structures.symmetry import primitive_cell, reduction_note, without_properties
from gan_htvs.structures.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges


class Sample(NamedTuple):
    """An entry of a source before screening."""

    label: str | None
    """File or row, listed if the entry is skipped; None if it is only counted."""
    structure: Structure | str | ValueError
    """A structure, a rejection reason, or the error of a parser."""
    energy_above_hull: float | None = None
    """eV/atom, if known."""
    note: str = ""
    """What was changed when the structure was read; empty if nothing was changed."""


@dataclass
class Collection:
    """Valid structures of one chemical system, and what was skipped.

    Attributes
    ----------
    structures, labels
        Structures and their origins: prototype, file or row.
    energies_above_hull
        eV/atom, one for each structure, or empty if unknown.
    skipped
        Skipped structures.
    notes
        What was changed when structures were read, by label.
    labels_are_files
        Whether the labels are files or rows, so that skipped ones are listed by label.
    """

    structures: list[Structure] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    energies_above_hull: list[float] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    notes: dict[str, str] = field(default_factory=dict)
    labels_are_files: bool = True

    def subset(
        self, indices: Sequence[int], reason: str, details: Mapping[int, str] | None = None
    ) -> Self:
        """Return these structures only; the others are skipped for ``reason``.

        ``details`` describe the reason for skipped structures, by index.
        """
        skipped, kept = deepcopy(self.skipped), set(indices)
        for i, label in enumerate(self.labels):
            if i not in kept:
                name = label if self.labels_are_files else None
                skipped.add(reason, name, (details or {}).get(i, ""))
        energies = self.energies_above_hull
        return replace(
            self,
            structures=[self.structures[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            energies_above_hull=[energies[i] for i in indices] if energies else [],
            skipped=skipped,
        )

    def without_duplicates(self) -> Self:
        """Return each phase only once; the skipped ones are compared with the first one."""
        duplicates = duplicates_of_one_phase(self.structures)
        details = {
            i: f"duplicate of {self.labels[first]}, RMS displacement {displacement:.3f} A"
            for i, (first, displacement) in duplicates.items()
        }
        kept = [i for i in range(len(self.structures)) if i not in duplicates]
        return self.subset(kept, RejectionReason.DUPLICATE, details)

    def require_structures(self, source: str, system: ChemicalSystem) -> None:
        """Raise a UserError if there is no structure."""
        if not self.structures:
            why = f"skipped: {self.skipped}" if str(self.skipped) else "it is empty"
            raise UserError(
                f"dataset.source {source!r} has no valid, charge-balanced structure of "
                f"{system.chemsys}; {why}; {self.skipped.fix}, or use another source."
            )


def screen(
    samples: Iterable[Sample],
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    geometry: GeometryLimits = CHEMISTRY,
) -> Collection:
    """Keep samples that are valid, charge-balanced structures within the caps."""
    collection = Collection()
    for label, sample, energy, note in samples:
        reason, details = _rejection(sample, system, oxidation_states, geometry)
        if reason is None and isinstance(sample, Structure):
            collection.structures.append(sample)
            collection.labels.append(str(label))
            if energy is not None:
                collection.energies_above_hull.append(energy)
            if note:
                collection.notes[str(label)] = note
        else:
            collection.skipped.add(str(reason), label, details)
    return collection


def _rejection(  # noqa: PLR0911 - one for each reason
    sample: Structure | str | ValueError,
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    geometry: GeometryLimits,
) -> tuple[str | None, str]:
    """Return the rejection reason of a sample, or None, and its details."""
    if isinstance(sample, str):
        return sample, ""
    if isinstance(sample, ValueError):
        is_other = isinstance(sample, NoStructureFileError)
        return NO_STRUCTURE if is_other else UNREADABLE, str(sample)
    if not sample.is_ordered:
        return MISFIT, "its sites are partly occupied"
    try:
        counts = system.counts(sample)
    except ValueError as error:
        return MISFIT, str(error)
    if max(sample.lattice.abc) > LENGTH_SCALE:
        return TOO_LONG, f"a lattice vector is longer than {LENGTH_SCALE:g} A"
    if (flaw := check_geometry(sample, geometry)) is not None:
        return flaw.reason, flaw.details
    if not system.is_charge_balanced(counts, oxidation_states):
        return RejectionReason.CHARGE_IMBALANCE, ""
    return None, ""


def reduced_sample(
    label: str, structure: Structure, energy_above_hull: float | None = None, note: str = ""
) -> Sample:
    """Reduce a structure without site properties to its Niggli-reduced primitive cell.

    The note is extended if the reduction moves atoms by more than rounding. A cell that cannot be
    reduced becomes the reason.
    """
    try:
        cell = primitive_cell(structure).get_reduced_structure("niggli")
        note = "; ".join(filter(None, (note, reduction_note(structure, cell))))
    except Exception as error:  # noqa: BLE001 - pymatgen raises many types
        return Sample(label, ValueError(f"its cell cannot be reduced ({error!s:.80})"))
    return Sample(label, cell, energy_above_hull, note)


def read_folder(path: Path) -> Iterator[Sample]:
    """Read every file of a folder and its subfolders, as reduced primitive cells.

    A structure that cannot be read yields the reason instead.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    for label, parsed, note in parse_folder(path, "dataset.path"):
        if isinstance(parsed, ValueError):
            yield Sample(label, parsed)
        else:
            yield reduced_sample(label, parsed, note=note)


def fetch_materials_project(
    system: ChemicalSystem,
    max_energy_above_hull: float,
    *,
    search: Callable[..., Iterable[Any]] | None = None,
) -> Iterator[Sample]:
    """Fetch the structures of a chemical system from the Materials Project.

    Parameters
    ----------
    system
        Elements.
    max_energy_above_hull
        eV/atom, as the Materials Project computes it.
    search
        Replacement for ``MPRester().materials.summary.search``.

    Raises
    ------
    UserError
        If the API key or the client package is missing, or the request fails.
    """
    for document in (search or _summary_search)(
        chemsys=system.chemsys,
        energy_above_hull=(0, max_energy_above_hull),
        fields=["material_id", "structure", "energy_above_hull"],
    ):
        structure = without_properties(document.structure)
        energy = float(document.energy_above_hull)
        yield reduced_sample(str(document.material_id), structure, energy)


def _summary_search(**query: Any) -> list[Any]:
    with open_client("dataset.source") as rester:
        return list(rester.materials.summary.search(**query))
