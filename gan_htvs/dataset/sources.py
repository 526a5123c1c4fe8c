"""Where training structures come from; every source ends in a :class:`Collection`."""

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
from gan_htvs.structures.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges

STRUCTURE_FILES = ("*.cif", "poscar*", "contcar*", "*.poscar", "*.vasp")
"""Names that are read from a folder, in capitals or not."""


class Sample(NamedTuple):
    """What a source holds before it is screened."""

    label: str | None
    """File or row, which is named if it is left out; None if it is not worth a name."""
    structure: Structure | str | ValueError
    """A structure, the reason why there is none, or the error of a parser."""
    energy_above_hull: float | None = None
    """eV/atom, if the source knows it."""


@dataclass
class Collection:
    """Sound structures of one chemical system, and what did not come in.

    Attributes
    ----------
    structures, labels
        Each with where it comes from.
    energies_above_hull
        eV/atom, one for each structure, or empty where the source knows none.
    skipped
        What was left out.
    is_named
        Whether the labels are files or rows, which are named if they are left out.
    """

    structures: list[Structure] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    energies_above_hull: list[float] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    is_named: bool = True

    def subset(self, indices: Sequence[int], reason: str) -> Self:
        """Keep these structures; the others are left out for that reason."""
        skipped, kept = deepcopy(self.skipped), set(indices)
        for i, label in enumerate(self.labels):
            if i not in kept:
                skipped.add(reason, label if self.is_named else None)
        energies = self.energies_above_hull
        return replace(
            self,
            structures=[self.structures[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            energies_above_hull=[energies[i] for i in indices] if energies else [],
            skipped=skipped,
        )


def screen(
    samples: Iterable[Sample], system: ChemicalSystem, oxidation_states: OxidationRanges
) -> Collection:
    """Keep the samples that are sound, charge-balanced structures within the caps."""
    found = Collection()
    for label, sample, energy in samples:
        reason, why = _problem(sample, system, oxidation_states)
        if reason is None and isinstance(sample, Structure):
            found.structures.append(sample)
            found.labels.append(str(label))
            if energy is not None:
                found.energies_above_hull.append(energy)
        else:
            found.skipped.add(str(reason), label, why)
    return found


def _problem(  # noqa: PLR0911 - one for each reason
    sample: Structure | str | ValueError, system: ChemicalSystem, oxidation_states: OxidationRanges
) -> tuple[str | None, str]:
    """Find the reason against a sample, and its details."""
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
    return check_geometry(sample), ""


def plain(structure: Structure) -> Structure:
    """Return a structure without site properties and oxidation states."""
    copy = Structure(structure.lattice, structure.species_and_occu, structure.frac_coords)
    copy.remove_oxidation_states()
    return copy


def reduced(structure: Structure) -> Structure:
    """Return the Niggli-reduced primitive cell, without site properties."""
    return plain(structure).get_primitive_structure().get_reduced_structure("niggli")


def read_structures(path: Path) -> tuple[dict[str, Structure], dict[str, str]]:
    """Read the structures of a folder and its subfolders as they are.

    Parameters
    ----------
    path
        Folder of CIF and POSCAR files.

    Returns
    -------
    Structures without site properties and oxidation states, and reasons why other files were
    skipped, by the path of the file within the folder.

    Raises
    ------
    UserError
        If there is no such folder, or no such file in it.
    """
    structures: dict[str, Structure] = {}
    skipped: dict[str, str] = {}
    for label, sample, _ in read_folder(path, "structures.path", plain):
        name = str(label)
        if not isinstance(sample, Structure):
            skipped[name] = str(sample)
        elif sample.is_ordered and len(sample):
            structures[name] = sample
        else:
            skipped[name] = "its sites are partly occupied" if len(sample) else "it has no atoms"
    return structures, skipped


def read_folder(
    path: Path,
    field: str = "dataset.path",
    prepare: Callable[[Structure], Structure] = reduced,
) -> Iterator[Sample]:
    """Read every CIF and POSCAR file of a folder and its subfolders.

    A file that does not parse does not stop the others.

    Parameters
    ----------
    path
        The folder.
    field
        The setting that names it.
    prepare
        Applied to every structure: :func:`plain` or :func:`reduced`.

    Raises
    ------
    UserError
        If there is no such folder, or no such file in it.
    """
    if not path.is_dir():
        raise UserError(f"{field} {path}: is no folder; give one with CIF or POSCAR files.")
    files = sorted(file for file in path.rglob("*") if _is_structure_file(file))
    if not files:
        raise UserError(
            f"{field} {path}: holds no structure file ({', '.join(STRUCTURE_FILES)}); put "
            "some there or name another folder."
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
        Stands in for ``MPRester().materials.summary.search``.

    Raises
    ------
    UserError
        Without a key or the client, or if the request fails.
    """
    for document in (search or _summary_search)(
        chemsys=system.chemsys,
        energy_above_hull=(0, max_energy_above_hull),
        fields=["material_id", "structure", "energy_above_hull"],
    ):
        energy = float(document.energy_above_hull)
        yield Sample(str(document.material_id), reduced(document.structure), energy)


def _summary_search(**query: Any) -> list[Any]:
    with open_client("dataset.source") as rester:
        return list(rester.materials.summary.search(**query))
