"""Sources of training structures. Every source is screened into a :class:`Collection`."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.core.mp_client import open_client
from gan_htvs.dataset.skipped import MISFIT, TOO_LONG, UNREADABLE, Skipped
from gan_htvs.structures.point_cloud import LENGTH_SCALE
from gan_htvs.structures.validity import RejectionReason, check_cell, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges

STRUCTURE_FILES = ("*.cif", "poscar*", "contcar*", "*.poscar", "*.vasp")
"""File names that are read from a folder, case-insensitive."""


class Sample(NamedTuple):
    """An entry of a source before screening."""

    label: str | None
    """File or row, listed if the entry is skipped; None if it is only counted."""
    structure: Structure | str | ValueError
    """A structure, a rejection reason, or the error of a parser."""
    energy_above_hull: float | None = None
    """eV/atom, if known."""


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
    labels_are_files
        Whether the labels are files or rows, so that skipped ones are listed by label.
    """

    structures: list[Structure] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    energies_above_hull: list[float] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    labels_are_files: bool = True

    def subset(self, indices: Sequence[int], reason: str) -> Self:
        """Return these structures only; the others are skipped for ``reason``."""
        skipped, kept = deepcopy(self.skipped), set(indices)
        for i, label in enumerate(self.labels):
            if i not in kept:
                skipped.add(reason, label if self.labels_are_files else None)
        energies = self.energies_above_hull
        return replace(
            self,
            structures=[self.structures[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            energies_above_hull=[energies[i] for i in indices] if energies else [],
            skipped=skipped,
        )

    def require_structures(self, source: str, system: ChemicalSystem) -> None:
        """Raise a UserError if there is no structure."""
        if not self.structures:
            why = f"skipped: {self.skipped}" if str(self.skipped) else "it is empty"
            raise UserError(
                f"dataset.source {source!r} has no valid, charge-balanced structure of "
                f"{system.chemsys}; {why}; {self.skipped.fix}, or use another source."
            )


def screen(
    samples: Iterable[Sample], system: ChemicalSystem, oxidation_states: OxidationRanges
) -> Collection:
    """Keep samples that are valid, charge-balanced structures within the caps."""
    collection = Collection()
    for label, sample, energy in samples:
        reason, details = _rejection(sample, system, oxidation_states)
        if reason is None and isinstance(sample, Structure):
            collection.structures.append(sample)
            collection.labels.append(str(label))
            if energy is not None:
                collection.energies_above_hull.append(energy)
        else:
            collection.skipped.add(str(reason), label, details)
    return collection


def _rejection(  # noqa: PLR0911 - one for each reason
    sample: Structure | str | ValueError, system: ChemicalSystem, oxidation_states: OxidationRanges
) -> tuple[str | None, str]:
    """Return the rejection reason of a sample, or None, and its details."""
    if isinstance(sample, str):
        return sample, ""
    if isinstance(sample, ValueError):
        return UNREADABLE, str(sample)
    if not sample.is_ordered:
        return MISFIT, "its sites are partly occupied"
    try:
        counts = system.counts(sample)
    except ValueError as error:
        return MISFIT, str(error)
    if max(sample.lattice.abc) > LENGTH_SCALE:
        return TOO_LONG, f"a lattice vector is longer than {LENGTH_SCALE:g} A"
    if not system.is_charge_balanced(counts, oxidation_states):
        return RejectionReason.CHARGE_IMBALANCE, ""
    flaw = check_geometry(sample)
    return (flaw.reason, flaw.details) if flaw else (None, "")


def without_properties(structure: Structure) -> Structure:
    """Return a structure without site properties, oxidation states and isotopes of hydrogen."""
    copy = Structure(structure.lattice, structure.species_and_occu, structure.frac_coords)
    copy.remove_oxidation_states()
    copy.replace_species({"D": "H", "T": "H"}, in_place=True)
    return copy


def reduced_primitive_cell(structure: Structure) -> Structure:
    """Return the Niggli-reduced primitive cell, without site properties."""
    return without_properties(structure).get_primitive_structure().get_reduced_structure("niggli")


def read_structures(path: Path) -> tuple[dict[str, Structure], dict[str, str]]:
    """Read the structures of a folder and its subfolders, without reducing their cells.

    Parameters
    ----------
    path
        Folder of CIF and POSCAR files.

    Returns
    -------
    structures
        By path of the file within the folder, without site properties and oxidation states.
    skipped
        Reasons for skipping the other files, by path.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    structures: dict[str, Structure] = {}
    skipped: dict[str, str] = {}
    for label, sample, _ in read_folder(path, "structures.path", without_properties):
        name = str(label)
        if not isinstance(sample, Structure):
            skipped[name] = str(sample)
        elif not len(sample):
            skipped[name] = "it has no atoms"
        elif not sample.is_ordered:
            skipped[name] = "its sites are partly occupied"
        elif (reason := check_cell(sample)) is not None:
            skipped[name] = str(reason)
        else:
            structures[name] = sample
    return structures, skipped


def read_folder(
    path: Path,
    field: str = "dataset.path",
    prepare: Callable[[Structure], Structure] = reduced_primitive_cell,
) -> Iterator[Sample]:
    """Read every CIF and POSCAR file of a folder and its subfolders.

    A file that does not parse yields the error instead of a structure.

    Parameters
    ----------
    path
        Folder to read.
    field
        Setting that names the folder, for error messages.
    prepare
        Applied to every structure: :func:`without_properties` or :func:`reduced_primitive_cell`.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    if not path.is_dir():
        raise UserError(f"{field} {path}: is not a folder; give a folder of CIF or POSCAR files.")
    files = sorted(file for file in path.rglob("*") if _is_structure_file(file))
    if not files:
        raise UserError(
            f"{field} {path}: contains no structure file ({', '.join(STRUCTURE_FILES)}); add "
            "one or give another folder."
        )
    for file in files:
        sample: Structure | ValueError
        try:
            sample = prepare(Structure.from_file(file))
        except Exception as error:  # noqa: BLE001 - parsers raise many types
            message = str(error).splitlines() or [type(error).__name__]
            sample = ValueError(f"does not parse: {message[0]:.80}")
        yield Sample(str(file.relative_to(path)), sample)


def _is_structure_file(path: Path) -> bool:
    name = path.name.lower()
    return any(fnmatchcase(name, pattern) for pattern in STRUCTURE_FILES) and path.is_file()


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
        energy = float(document.energy_above_hull)
        yield Sample(str(document.material_id), reduced_primitive_cell(document.structure), energy)


def _summary_search(**query: Any) -> list[Any]:
    with open_client("dataset.source") as rester:
        return list(rester.materials.summary.search(**query))
