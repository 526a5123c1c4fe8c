"""The reference phases of a campaign, from the source that its settings name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import checked_hash
from gan_htvs.core.text import join_names
from gan_htvs.thermodynamics.hull import missing_elements
from gan_htvs.thermodynamics.ions import ion_set_of, required_reference_solids
from gan_htvs.thermodynamics.reference_sources.fetched_file import Provenance
from gan_htvs.thermodynamics.reference_sources.materials_project import fetch_materials_project
from gan_htvs.thermodynamics.reference_sources.optimade import fetch_optimade
from gan_htvs.thermodynamics.reference_sources.own_files import (
    FilePhases,
    fetched_phases,
    phases_of_file,
    phases_of_folder,
    read_json,
)
from gan_htvs.thermodynamics.references import (
    elemental_gases,
    missing_from_package,
    reference_phases,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign, ReferenceSettings
    from gan_htvs.thermodynamics.reference_sources.fetched_file import FetchedPhases
    from gan_htvs.thermodynamics.reference_sources.optimade import OnProgress
    from gan_htvs.thermodynamics.references import ReferencePhase

SHIPPED_SOURCES = ("auto", "literature")
"""Sources that are part of the package; 'auto' is another one if references.json exists."""

FETCHED_SOURCES = ("optimade", "materials_project")
"""Sources whose phases are fetched once and kept in a file."""

WAYS = (
    "`references: {source: optimade}` (needs the network, no key), `references: {source: "
    "materials_project}` (needs MP_API_KEY), `references: {source: folder, path: my-phases}` "
    "(structure files) or `references: {source: file, path: my-phases.json}` (pymatgen structures "
    "or entries)"
)
"""Sections of campaign.yaml for chemical systems that the shipped phases do not cover."""


def phases_of(campaign: Campaign, *, by_potential: bool = False) -> list[ReferencePhase]:
    """Return the reference phases of a campaign from its source.

    Nothing is fetched here; :func:`gan_htvs.campaign.campaign_file.read_campaign` does it. Energies
    of the Materials Project are only comparable with those of VASP. With ``by_potential`` the
    phases are returned without them, so that the potential computes them.

    Raises
    ------
    UserError
        If an element has no phase, the shipped phases do not cover a subsystem, or the file or
        folder is missing, is damaged, does not have the recorded hash, or was fetched with other
        settings.
    """
    settings = campaign.references
    elements = campaign.chemical_system.elements
    if settings.source in SHIPPED_SOURCES:
        if gap := missing_from_package(elements):
            raise UserError(f"references: {gap}; add one of these lines to the campaign: {WAYS}.")
        return reference_phases(elements)
    solids = _reference_solids(campaign)
    where = f"references.path {settings.path}"
    read, has_energies = _read(settings, elements)
    bound = settings.max_energy_above_hull if has_energies else None
    phases = phases_in_system(read, elements, where, solids, bound)
    if by_potential or settings.energies == "computed":
        return phases
    if any(phase.energy_per_atom is None for phase in phases):
        raise UserError(
            f"references.path {settings.path}: has no energies; delete the file to fetch them."
        )
    return [replace(phase, pinned_energy_per_atom=phase.energy_per_atom) for phase in phases]


def fetch_phases(campaign: Campaign, on_progress: OnProgress = lambda *_: None) -> FetchedPhases:
    """Fetch the reference phases of a campaign from the database of its settings.

    If the chemical system has aqueous ions, but no oxygen, its oxides are fetched, too, because
    they compete in Pourbaix diagrams. So are the reference solids of the ions.

    Parameters
    ----------
    campaign
        Its source of reference phases is one of :data:`FETCHED_SOURCES`.
    on_progress
        Called with the number of finished queries and the total, and with a note before a request
        to a busy server is repeated.

    Raises
    ------
    UserError
        If the database cannot be queried, the response is incomplete, or an element has no phase.
    """
    settings, elements = campaign.references, campaign.chemical_system.elements
    solids = _reference_solids(campaign)
    solid_elements = [{el.symbol for el in Composition(formula)} for formula in solids]
    symbols = set(elements)
    if any("O" in system for system in solid_elements):
        symbols.add("O")
    further = dict.fromkeys(tuple(sorted(s)) for s in solid_elements if not s <= symbols)
    bound = settings.max_energy_above_hull
    if settings.source == "optimade":
        fetched = fetch_optimade(symbols, settings.provider, bound, on_progress, further=further)
    else:
        fetched = fetch_materials_project(symbols, bound, further=further)
    applied = bound if fetched.provenance.has_energies else None
    where = f"references.source {settings.source!r}"
    phases_in_system(fetched.phases, elements, where, solids, applied)
    return fetched


def _reference_solids(campaign: Campaign) -> tuple[str, ...]:
    """Return the reference solids of aqueous ions that a campaign needs."""
    if (conditions := campaign.aqueous_conditions) is None:
        return ()
    return required_reference_solids(campaign.chemical_system.elements, ion_set_of(conditions))


def phases_in_system(
    phases: Iterable[ReferencePhase],
    elements: Iterable[str],
    where: str,
    solids: Iterable[str] = (),
    bound: float | None = None,
) -> list[ReferencePhase]:
    """Return the phases that a campaign needs.

    Elements that are gases have only the shipped phase, whose energy is pinned.

    Parameters
    ----------
    phases
        Reference phases of this or a larger system.
    elements
        Symbols of the chemical system. Oxides of these elements are kept, too, since they compete
        in Pourbaix diagrams.
    where
        Setting that names the source, for the error message.
    solids
        Reduced formulas of phases that are kept whatever their elements are.
    bound
        Largest energy above hull of the phases, eV/atom, for the error message; None: the source
        has no energies, so this bound does not apply.

    Raises
    ------
    UserError
        If an element has no phase.
    """
    symbols, formulas = set(elements), set(solids)
    kept = [
        phase
        for phase in phases
        if phase.formula in formulas or set(phase.structure.symbol_set) <= symbols | {"O"}
    ]
    needed = symbols.union(*(phase.structure.symbol_set for phase in kept))
    gases = {symbol: gas for symbol, gas in elemental_gases().items() if symbol in needed}
    kept = [phase for phase in kept if phase.structure.chemical_system not in gases]
    compositions = [phase.structure.composition for phase in (*gases.values(), *kept)]
    if missing := missing_elements(compositions, needed):
        within, lift = "", ""
        if bound is not None:
            within = f", within references.max_energy_above_hull ({bound:g} eV/atom)"
            lift = ", raise this bound"
        if symbols.isdisjoint(missing):
            foreign = {p.formula for p in kept if not {*missing}.isdisjoint(p.structure.symbol_set)}
            raise UserError(
                f"{where}: has {join_names(sorted(foreign))}, from which aqueous ions get their "
                f"energies, but no elemental phase of {', '.join(missing)}, which its formation "
                f"energy needs{within}; add it{lift}, or choose another references.source."
            )
        raise UserError(
            f"{where}: has no elemental phase of {', '.join(missing)}, which the hull needs"
            f"{within}; add it{lift}, or choose another references.source."
        )
    return [*gases.values(), *sorted(kept, key=lambda phase: phase.name)]


def _read(settings: ReferenceSettings, elements: Sequence[str]) -> FilePhases:
    """Read the phases of a source with a path."""
    path = settings.path
    if path is None:
        raise UserError(
            f"references.path: the phases of source {settings.source!r} are not fetched yet; read "
            "the campaign from its file."
        )
    if not path.exists():
        raise UserError(f"references.path {path}: does not exist; restore it.")
    sha256 = checked_hash(path, settings.sha256, "references.path")
    if settings.source == "folder":
        return FilePhases(_folder(path, sha256), has_energies=False)
    if settings.source == "file":
        return _file(path, settings.max_energy_above_hull, sha256)
    fetched = _fetched(path, sha256)
    request = Provenance(
        source=settings.source,
        provider=settings.provider if settings.source == "optimade" else "materials_project",
        elements=tuple(sorted(elements)),
        max_energy_above_hull=settings.max_energy_above_hull,
        n_entries=0,
    )
    if not fetched.provenance.covers(request):
        raise UserError(
            f"references.path {path}: was fetched for {fetched.provenance.request}; restore these "
            "settings, or name a new file."
        )
    return FilePhases(fetched.phases, fetched.provenance.has_energies)


# Cached by hash: a campaign reads its phases several times, and reducing cells takes a while.
@cache
def _folder(path: Path, sha256: str) -> list[ReferencePhase]:  # noqa: ARG001
    return phases_of_folder(path)


@cache
def _file(path: Path, bound: float, sha256: str) -> FilePhases:  # noqa: ARG001
    return phases_of_file(path, bound)


@cache
def _fetched(path: Path, sha256: str) -> FetchedPhases:  # noqa: ARG001
    fetched = fetched_phases(read_json(path))
    if fetched is None:
        raise UserError(
            f"references.path {path}: was not fetched by this version of gan-htvs; use it as your "
            f"own file with `references: {{source: file, path: {path}}}`, or delete it to fetch "
            "the phases."
        )
    return fetched
