"""Reference phases of the user: folders of structure files, and JSON files."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.structures.structure_files import read_structures, unusable_reason
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.thermodynamics.hull import missing_elements
from gan_htvs.thermodynamics.reference_sources.fetched_file import FetchedPhases, parse_fetched
from gan_htvs.thermodynamics.reference_sources.optimade import structure_of_resource
from gan_htvs.thermodynamics.references import ReferencePhase, primitive_phase, safe_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gan_htvs.thermodynamics.reference_sources.fetched_file import Provenance

FORMS = "pymatgen structures, ComputedStructureEntries or documents with a 'structure'"
"""What a file may have, for error messages."""

LABELS = ("material_id", "entry_id", "name", "label", "id")
"""Keys that name an entry of a file, the first one with a value is used."""

_SUFFIX = re.compile(r"\.(m?cif|poscar|vasp|(ext)?xyz|json)(\.gz)?(?=#|$)", re.IGNORECASE)


class FilePhases(NamedTuple):
    """Reference phases of a file."""

    phases: list[ReferencePhase]
    """Phases with primitive cells, in the order of the file."""
    has_energies: bool
    """Whether energies above hull have limited the phases."""


class _Entry(NamedTuple):
    """An entry of a file, with the energies of its source."""

    label: str
    structure: Structure
    energy_per_atom: float | None
    energy_above_hull: float | None


def phases_of_folder(path: Path) -> list[ReferencePhase]:
    """Read reference phases from the structure files of a folder and its subfolders.

    Raises
    ------
    UserError
        If the folder has no structure file, or a structure that cannot be read or is disordered:
        candidates look too stable if a phase is missing. Other files, such as notes, are ignored.
    """
    folder = read_structures(path, "references.path")
    structures = folder.structures
    if folder.skipped:
        (name, reason), *others = folder.skipped.items()
        more = f" ({len(others)} more files have problems)" if others else ""
        raise UserError(
            f"references.path {path / name}: {reason}{more}; correct or remove the file, because "
            "candidates look too stable if a reference phase is missing."
        )
    return _phases((name, structure, f"file {name}") for name, structure in structures.items())


def phases_of_file(path: Path, max_energy_above_hull: float) -> FilePhases:
    """Read reference phases from a JSON file, which may be compressed with gzip.

    Parameters
    ----------
    path
        File of structures, entries or documents as from the Materials Project, in a list (alone, or
        as ``data`` or ``phases``) or by name, a response of an OPTIMADE server, or a file that this
        package has fetched.
    max_energy_above_hull
        Entries are kept up to this energy, eV/atom, if the file has energies above hull, or
        energies of all its entries, elements included.

    Raises
    ------
    UserError
        If the file cannot be read, or an entry has no ordered structure, or an energy that is not
        a number.
    """
    document = read_json(path)
    if (fetched := fetched_phases(document)) is not None:
        return FilePhases(fetched.phases, has_energies=False)
    entries = [_entry(path, label, item) for label, item in _items(path, document)]
    if not entries:
        raise UserError(f"references.path {path}: is empty; add {FORMS}.")
    above = _energies_above_hull(entries)
    phases = _phases(
        (entry.label, entry.structure, f"{path.name}: {entry.label}")
        for entry, energy in zip(entries, above, strict=True)
        if energy is None or energy <= max_energy_above_hull
    )
    return FilePhases(phases, has_energies=any(energy is not None for energy in above))


def read_json(path: Path) -> Any:
    """Read a JSON file, which may be compressed with gzip.

    Raises
    ------
    UserError
        If it cannot be read, is not JSON, or has numbers that are not finite.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return json.loads(content, parse_constant=_reject_constant)
    except OSError as error:
        reason = error.strerror or "it is not a gzip file"
        raise UserError(
            f"references.path {path}: cannot be read ({reason}); restore the file."
        ) from error
    except (ValueError, EOFError, zlib.error) as error:
        raise UserError(
            f"references.path {path}: is not valid JSON ({error}); restore the file."
        ) from error


def fetched_phases(document: Any) -> FetchedPhases | None:
    """Return the phases of a document that this package has written; None: another document."""
    if not isinstance(document, dict) or "provenance" not in document:
        return None
    try:
        return parse_fetched(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def provenance_of(path: Path) -> Provenance | None:
    """Return the provenance of a file of fetched phases; None: another file, or a folder."""
    fetched = None if path.is_dir() else fetched_phases(read_json(path))
    return None if fetched is None else fetched.provenance


def _reject_constant(name: str) -> NoReturn:
    """Raise an error on NaN and Infinity, which Python accepts in JSON."""
    raise ValueError(f"{name} is not a finite number")


def _items(path: Path, document: Any) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """Yield the entries of a document with their keys, if it has keys."""
    pairs: Sequence[tuple[str | None, Any]]
    for key in ("data", "phases"):
        if isinstance(document, dict) and isinstance(document.get(key), list):
            document = document[key]
    if isinstance(document, dict) and not {"structure", "sites"} & document.keys():
        pairs = list(document.items())
    else:
        pairs = [(None, item) for item in (document if isinstance(document, list) else [document])]
    for number, (label, item) in enumerate(pairs, 1):
        if not isinstance(item, dict):
            raise UserError(
                f"references.path {path}: entry {label or number} is not a structure; the file "
                f"must have {FORMS}, in a list or by name."
            )
        yield label, item


def _entry(path: Path, key: str | None, item: Mapping[str, Any]) -> _Entry:
    data = item["data"] if isinstance(item.get("data"), dict) else {}
    named = [part.get(name) for name in LABELS for part in (item, data)]
    label = key or next((str(value) for value in named if value), "")
    try:
        if "attributes" in item:
            structure = structure_of_resource(item)
        else:
            structure = Structure.from_dict(item.get("structure", item))
        structure = without_properties(structure)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"references.path {path}: entry {label or item.get('@class', 'without a name')} has no "
            f"structure that pymatgen reads; the file must have {FORMS}."
        ) from error
    label = label or structure.composition.reduced_formula
    if (reason := unusable_reason(structure)) is not None:
        raise UserError(
            f"references.path {path}: entry {label}: {reason}; correct or remove the entry."
        )
    above = item.get("energy_above_hull", data.get("energy_above_hull"))
    try:
        energy = _energy_per_atom(item)
        above = None if above is None else _finite("energy_above_hull", above)
    except ValueError as error:
        raise UserError(
            f"references.path {path}: entry {label}: {error}; correct or remove the entry."
        ) from error
    return _Entry(label, structure, energy, above)


def _energy_per_atom(item: Mapping[str, Any]) -> float | None:
    """Return the corrected energy of a ComputedStructureEntry, eV/atom, if it is one.

    Raises
    ------
    ValueError
        If energy or correction is not a number, or the composition is invalid.
    """
    if "energy" not in item or "composition" not in item:
        return None
    try:
        n_atoms = Composition(item["composition"]).num_atoms
    except (ValueError, TypeError, AttributeError):
        n_atoms = 0.0
    if not n_atoms:
        raise ValueError(f"{item['composition']!r} is not a composition")
    correction = _finite("correction", item.get("correction") or 0.0)
    return (_finite("energy", item["energy"]) + correction) / n_atoms


def _finite(key: str, value: Any) -> float:
    """Return a value as number, or raise ValueError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} {value!r} is not a number")
    return number


def _energies_above_hull(entries: Sequence[_Entry]) -> list[float | None]:
    """Return the energies above hull of the file, or on the hull of its own energies, eV/atom."""
    listed = [entry.energy_above_hull for entry in entries]
    energies = [entry.energy_per_atom for entry in entries]
    compositions = [entry.structure.composition for entry in entries]
    symbols = {element.symbol for composition in compositions for element in composition}
    if any(energy is None for energy in energies) or missing_elements(compositions, symbols):
        return listed
    pd_entries = [
        PDEntry(composition, energy * composition.num_atoms)
        for composition, energy in zip(compositions, energies, strict=True)
        if energy is not None
    ]
    hull = PhaseDiagram(pd_entries)
    return [
        hull.get_e_above_hull(pd_entry) if energy is None else energy
        for pd_entry, energy in zip(pd_entries, listed, strict=True)
    ]


def _phases(
    labeled: Iterable[tuple[str, Structure, str]],
) -> list[ReferencePhase]:
    """Make reference phases with unique names from labels, structures and sources."""
    phases: dict[str, ReferencePhase] = {}
    for label, structure, source in labeled:
        formula = structure.composition.reduced_formula
        stem = safe_label(_SUFFIX.sub("", label))
        base = stem if formula in stem else f"{formula} {stem}"
        name = next(n for n in chain([base], (f"{base} #{i}" for i in count(2))) if n not in phases)
        phases[name] = primitive_phase(name, structure, source)
    return list(phases.values())
