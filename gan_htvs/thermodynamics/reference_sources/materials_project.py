"""Reference phases of the Materials Project, with the API key of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Element

from gan_htvs.core.errors import UserError
from gan_htvs.core.mp_client import open_client
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.thermodynamics.hull import missing_elements
from gan_htvs.thermodynamics.reference_sources.fetched_file import FetchedPhases, Provenance
from gan_htvs.thermodynamics.references import primitive_phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.entries.computed_entries import ComputedStructureEntry

THERMO_TYPE = "GGA_GGA+U"
"""Without this type the client returns energies of the mixed hull with r2SCAN."""


def fetch_materials_project(
    elements: Iterable[str],
    max_energy_above_hull: float,
    *,
    further: Iterable[tuple[str, ...]] = (),
) -> FetchedPhases:
    """Fetch structures, and energies with the MP2020 corrections.

    The energies are only comparable with those of VASP at the settings of the Materials Project.

    Parameters
    ----------
    elements
        The chemical system; subsystems are included.
    max_energy_above_hull
        Limit on the fetched energies, eV/atom.
    further
        Further chemical systems.

    Returns
    -------
    Phases sorted by formula and Materials Project id, elements included, and their provenance.

    Raises
    ------
    UserError
        If the key or the client is missing, the request fails, or an element has no phase.
    """
    symbols = sorted({Element(symbol).symbol for symbol in elements})
    by_id: dict[str, ComputedStructureEntry] = {}
    with open_client("references.source") as rester:
        for system in (symbols, *map(list, further)):
            found = rester.get_entries_in_chemsys(
                system,
                compatible_only=True,
                additional_criteria={"thermo_types": [THERMO_TYPE]},
            )
            by_id |= {str(entry.entry_id): entry for entry in found}
    entries = list(by_id.values())
    if missing := missing_elements([entry.composition for entry in entries], symbols):
        raise UserError(
            f"references.source 'materials_project': {'-'.join(symbols)} has no elemental phase of "
            f"{', '.join(missing)}, which the hull needs; choose another source."
        )
    hull = PhaseDiagram(entries)
    phases = {
        name: primitive_phase(
            name,
            without_properties(entry.structure),
            f"Materials Project {_material(entry)}",
            entry.energy_per_atom,
        )
        for entry in entries
        if hull.get_e_above_hull(entry) <= max_energy_above_hull
        for name in [f"{entry.composition.reduced_formula} {_material(entry)}"]
    }
    provenance = Provenance(
        source="materials_project",
        provider="materials_project",
        elements=tuple(symbols),
        max_energy_above_hull=max_energy_above_hull,
        n_entries=len(entries),
        skipped={"too far above the hull": len(entries) - len(phases)},
    )
    return FetchedPhases([phases[name] for name in sorted(phases)], provenance)


def _material(entry: ComputedStructureEntry) -> str:
    """Return the id of the material; the id of an entry also has the functional."""
    return str(entry.data.get("material_id") or entry.entry_id)
