"""Reading and validation of campaign.yaml, and of the files that it names."""

from __future__ import annotations

import difflib
from collections import Counter
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from gan_htvs.campaign.model import SHIPPED, Campaign, generator_file
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash, hash_of_path
from gan_htvs.core.settings import Settings, first_error, first_problem, read_mapping
from gan_htvs.structures.structure_files import read_structures
from gan_htvs.thermodynamics.ions import ion_set_of
from gan_htvs.thermodynamics.reference_sources.campaign_phases import (
    FETCHED_SOURCES,
    fetch_phases,
    phases_of,
)
from gan_htvs.thermodynamics.reference_sources.fetched_file import write_fetched
from gan_htvs.thermodynamics.references import missing_from_package

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.reference_sources.optimade import OnProgress

ANY_OXIDATION_STATE = (-8.0, 9.0)
"""Lowest and highest average oxidation state in campaigns of given structures."""

NAMED_FILES = {
    "dataset": "path",
    "generator": "checkpoint",
    "structures": "path",
    "references": "path",
    "pourbaix": "ion_file",
}
"""Setting of each section that names a file or folder."""

FETCHED_REFERENCES = Path("references.json")
"""Default file of fetched reference phases, beside campaign.yaml."""


def read_campaign(path: str | Path, on_progress: OnProgress = lambda *_: None) -> Campaign:
    """Read and validate a campaign file, and locate and hash the files that it names.

    Reference phases of a database are fetched once and written to a file. The hash of that file is
    one of the settings, so later changes of the database do not affect a campaign.

    Parameters
    ----------
    path
        campaign.yaml.
    on_progress
        Called with the number of finished queries for reference phases and the total, and with a
        note before a request to a busy server is repeated.

    Raises
    ------
    UserError
        If the file is invalid; the message has the file, the field and the fix.
    """
    path = Path(path)
    campaign = with_file_paths(path, parse_campaign(path))
    sections = [section for section in NAMED_FILES if section != "references"]
    located = {section: _located(path, campaign, section) for section in sections}
    campaign = campaign.model_copy(update=located)
    if campaign.pourbaix is not None:
        pourbaix = _with_ion_set(path, campaign.pourbaix)
        campaign = campaign.model_copy(update={"pourbaix": pourbaix})
    _fetch_references(campaign, on_progress)
    return campaign.model_copy(update={"references": _located(path, campaign, "references")})


def parse_campaign(path: Path) -> Campaign:
    """Read and validate a campaign file without the files that it names.

    Raises
    ------
    UserError
        If the file is invalid; the message has the file, the field and the fix.
    """
    document = read_mapping(path, "`gan-htvs init` writes one to start from")
    return validate_campaign(document, source=str(path))


def campaign_for_structures(
    folder: Path, name: str, band_gap: str = "gpaw", references: Path | None = None
) -> Campaign:
    """Build a campaign that evaluates the structures of a folder and samples none.

    Parameters
    ----------
    folder
        Folder of structure files.
    name
        Name of the campaign.
    band_gap
        Name of the band-gap engine.
    references
        File or folder of reference phases; None: those of the package.

    Raises
    ------
    UserError
        If the folder has no valid structure, a structure has elements without reference phases, the
        reference phases cannot be read, or the name or the engine is invalid.
    """
    own = read_structures(folder)
    structures = own.structures
    if not structures:
        label, reason = next(iter(own.skipped.items()))
        raise UserError(
            f"{folder}: has no structure that can be computed; {len(own.skipped)} skipped, such as "
            f"{label} ({reason})."
        )
    counts = {
        label: Counter(site.specie.symbol for site in structure)
        for label, structure in structures.items()
    }
    for system, label in {frozenset(count): label for label, count in counts.items()}.items():
        if references is None and (gap := missing_from_package(system)):
            raise UserError(
                f"{folder / label}: {gap}; give a file or folder of reference phases "
                "(--references)."
            )
    caps = dict(sorted(reduce(or_, counts.values()).items()))  # the largest of all counts
    document: dict[str, Any] = {
        "name": name,
        "chemical_system": {"caps": caps},
        "oxidation_states": dict.fromkeys(caps, ANY_OXIDATION_STATE),
        "sampling": {"proposers": []},
        "structures": {
            "path": folder.resolve(),
            "sha256": hash_of_path(folder),
            "count": n_different(structures.values()),
            "source_notes": own.source_notes,
        },
        "engines": {"band_gap": {"name": band_gap}},
        "prescreen": None,
    }
    if references is not None:
        document["references"] = {
            "source": "folder" if references.is_dir() else "file",
            "path": references.resolve(),
            "sha256": hash_of_path(references) if references.exists() else None,
        }
    campaign = validate_campaign(document, source=str(folder))
    if references is not None:
        phases_of(campaign)  # fails before any work
    return campaign


def validate_campaign(document: dict[str, Any], source: str) -> Campaign:
    """Validate a campaign that was read from ``source``.

    Raises
    ------
    UserError
        If the document is invalid; the message has the source, the field and the fix.
    """
    try:
        return Campaign.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{source}: {_problem(Campaign, error)}.") from error
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def with_file_paths(campaign_file: Path, campaign: Campaign) -> Campaign:
    """Return a campaign with absolute paths of its reference phases and of its file of ions.

    Fetched phases are kept beside the campaign file if the settings name no file. If such a file
    exists and the shipped phases do not cover the chemical system, source 'auto' reads it.
    """
    settings, values = campaign.references, dict[str, Any]()
    default = _absolute(campaign_file, FETCHED_REFERENCES)
    if settings.path is not None:
        values = {"path": _absolute(campaign_file, settings.path)}
    elif settings.source in FETCHED_SOURCES:
        values = {"path": default}
    elif (
        settings.source == "auto"
        and default.is_file()
        and missing_from_package(campaign.chemical_system.elements)
    ):
        values = {"source": "file", "path": default}
    update: dict[str, Any] = {"references": settings.model_copy(update=values)}
    if (pourbaix := campaign.pourbaix) is not None and pourbaix.ion_file is not None:
        located = {"ion_file": _absolute(campaign_file, pourbaix.ion_file)}
        update["pourbaix"] = pourbaix.model_copy(update=located)
    return campaign.model_copy(update=update)


def _fetch_references(campaign: Campaign, on_progress: OnProgress) -> None:
    """Fetch the reference phases of a campaign and write them to its file, unless it exists."""
    path = campaign.references.path
    if campaign.references.source in FETCHED_SOURCES and path is not None and not path.exists():
        write_fetched(path, fetch_phases(campaign, on_progress))


def _absolute(campaign_file: Path, path: Path) -> Path:
    """Resolve a path relative to the campaign file."""
    return (campaign_file.resolve().parent / path.expanduser()).resolve()


def _located(campaign_file: Path, campaign: Campaign, section: str) -> Settings | None:
    """Make the path of a section absolute, and add the hash of the file or folder.

    Raises
    ------
    UserError
        If the path does not exist or is of the wrong kind, or its hash differs from the one in the
        section.
    """
    field = NAMED_FILES[section]
    settings: Any = getattr(campaign, section)
    named: Path | None = settings and getattr(settings, field)
    if named is None:
        return settings
    is_folder = section == "structures" or getattr(settings, "source", None) == "folder"
    if section != "generator" or named != SHIPPED:  # its location differs between machines
        named = _absolute(campaign_file, named)
    path = generator_file(named)
    if not (path.is_dir() if is_folder else path.is_file()):
        kind, other = ("folder", "file") if is_folder else ("file", "folder")
        problem = f"{kind} {path} does not exist"
        if path.exists():
            problem = f"{path} is a {other}; name a {kind}"
        raise UserError(f"{campaign_file}: {section}.{field}: {problem}.")
    sha256 = hash_of_path(path)
    if settings.sha256 not in (None, sha256):
        raise UserError(
            f"{campaign_file}: {section}.sha256: {path} has {sha256}; restore the file, or correct "
            "the hash."
        )
    values: dict[str, Any] = {field: named, "sha256": sha256}
    if section == "structures":
        own = read_structures(path)
        values |= {"count": n_different(own.structures.values()), "source_notes": own.source_notes}
    return settings.model_copy(update=values)


def n_different(structures: Iterable[Structure]) -> int:
    """Count structures; copies of the same file are one candidate."""
    return len({content_hash(structure) for structure in structures})


def _with_ion_set(campaign_file: Path, settings: PourbaixSettings) -> PourbaixSettings:
    """Check the table of aqueous ions, and add its version.

    Raises
    ------
    UserError
        If the table does not exist or is invalid, or its version is not the one in the settings.
    """
    try:
        version = ion_set_of(settings).version
    except UserError as error:
        raise UserError(f"{campaign_file}: {error}") from error
    if "ion_set" in settings.model_fields_set and settings.ion_set != version:
        raise UserError(
            f"{campaign_file}: pourbaix.ion_set: {settings.ion_set!r} is not the version of "
            f"{settings.ion_file}, {version!r}; remove one of the two settings."
        )
    return settings.model_copy(update={"ion_set": version})


def _problem(model: type[BaseModel], error: ValidationError) -> str:
    """Format the first problem, with the valid keys or the wrong value."""
    problem = first_error(error)
    if problem["type"] == "extra_forbidden":
        location = ".".join(str(part) for part in problem["loc"])
        *parents, key = problem["loc"]
        known = _fields_at(model, parents)
        close = difflib.get_close_matches(str(key), known, n=1)
        fix = f"perhaps {close[0]!r}" if close else f"valid keys are {', '.join(known)}"
        return f"unknown key {location!r}; {fix}"
    message = first_problem(error)
    if problem["type"] in ("missing", "value_error") or isinstance(problem["input"], dict):
        return message
    value = "null" if problem["input"] is None else repr(problem["input"])
    return (
        f"{message} (it is read as {value})"
        if problem["type"] == "string_type"
        else (f"{message}, not {value}")
    )


def _fields_at(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """List the keys of the section at ``path``; integers are positions in lists."""
    for part in path:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            options = [annotation, *get_args(annotation)]
            model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)
