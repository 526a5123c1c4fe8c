"""Decorate prototypes with the cations and anions of a chemical system.

Every prototype is decorated in all inequivalent ways within the caps that can be charge-balanced,
including supercells and, on host lattices, ordered vacancies. For each composition, the orderings
of lowest electrostatic energy and of highest symmetry are kept.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, islice, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.dataset.ions import fit_volume
from gan_htvs.dataset.polyanions import center_elements
from gan_htvs.dataset.prototypes import Prototype, prototypes
from gan_htvs.dataset.site_ordering import Ordering, Supercell
from gan_htvs.dataset.skipped import TOO_LONG
from gan_htvs.dataset.sources import Collection
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits, overlap_distances
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import LENGTH_SCALE
from gan_htvs.structures.superlattices import inequivalent_superlattices
from gan_htvs.structures.validity import check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.core.chemical_system import Counts
    from gan_htvs.dataset.ions import Ions

N_LOWEST_ENERGY, N_HIGHEST_SYMMETRY = 2, 1
"""Orderings kept per prototype and composition, by electrostatic energy and by symmetry."""

MAX_SUPERLATTICES = 3
"""Superlattices tried per index, the most compact and most symmetric ones."""

MAX_INDEX = 2
"""Largest supercell index of lattices without vacancies; hosts are limited by the caps alone."""

TARGET_STRUCTURES, PER_COMPOSITION_RANGE = 1000, (6, 12)
"""Target number of structures, and bounds on the number per cell formula that follows from it."""

MAX_INSTABILITY = 0.8
"""Largest global instability index, valence units; synthesized oxides have 0 to 0.3."""

BOND_VALENCES_OFF, CROWDED_COMPOSITION = "bond_valences_off", "crowded_composition"
"""Rejection reasons in addition to ``TOO_LONG`` and ``RejectionReason``."""

SAME_SIGN_DISTANCE = 2.2
"""Shortest distance of ions of equal sign, A; in known oxides across shared octahedron faces."""

BOND_LENGTH_MIN = 1.5
"""Shortest cation-anion distance, A; a vanadyl bond has 1.58."""

OVERLAP_SHARE = 0.91, 0.79
"""Share of the overlap distance that is enough for ions of equal and of opposite sign; these are
the bounds of small ions such as H and C."""


@dataclass(frozen=True)
class Candidate:
    """A decorated structure, the name of its prototype and its global instability index."""

    structure: Structure
    prototype: str
    instability: float


def decorate_prototypes(
    ions: Ions,
    *,
    max_per_composition: int | None = None,
    geometry: GeometryLimits = CHEMISTRY,
    on_progress: Callable[[int, int], None] | None = None,
) -> Collection:
    """Decorate every prototype with the ions of a chemical system.

    Parameters
    ----------
    ions
        Chemical system and oxidation states.
    max_per_composition
        Largest number of structures per cell formula; by default such that there are about
        ``TARGET_STRUCTURES`` in total.
    geometry
        Limits for the structures.
    on_progress
        Called with the number of finished prototypes and their total.

    Returns
    -------
    Valid structures, labeled with their prototypes. Different prototypes may yield the same
    crystal.
    """
    balanced = tuple(ions.system.compositions(ions.oxidation_states))
    by_counts: dict[Counts, list[Candidate]] = defaultdict(list)
    collection = Collection(labels_are_files=False)
    for counts, decorated in _decorated(ions, balanced, geometry, on_progress=on_progress):
        if isinstance(decorated, Candidate):
            by_counts[counts].append(decorated)
        else:
            collection.skipped.add(decorated)
    limit = max_per_composition or int(
        np.clip(TARGET_STRUCTURES // max(len(by_counts), 1), *PER_COMPOSITION_RANGE)
    )
    for _, candidates in sorted(by_counts.items()):
        kept = _most_plausible(candidates, limit)
        collection.structures += [candidate.structure for candidate in kept]
        collection.labels += [candidate.prototype for candidate in kept]
        collection.skipped.counts[CROWDED_COMPOSITION] += len(candidates) - len(kept)
    return collection


def decorate_composition(
    ions: Ions,
    counts: Counts,
    *,
    n_lowest_energy: int = N_LOWEST_ENERGY,
    geometry: GeometryLimits = CHEMISTRY,
) -> list[Candidate]:
    """Decorate every prototype with the ions of one cell formula.

    Parameters
    ----------
    ions
        Chemical system and oxidation states.
    counts
        Atoms of each element, charge-balanced.
    n_lowest_energy
        Orderings of lowest electrostatic energy per prototype.
    geometry
        Limits for the structures.

    Returns
    -------
    Valid structures, in the order of preference of :func:`decorate_prototypes`.
    """
    decorated = _decorated(ions, (counts,), geometry, n_lowest_energy=n_lowest_energy)
    valid = [candidate for _, candidate in decorated if isinstance(candidate, Candidate)]
    return _most_plausible(valid, len(valid))


def _most_plausible(candidates: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Select the best candidate of each prototype by bond valences, then the second best, etc."""
    by_prototype: dict[str, list[Candidate]] = defaultdict(list)
    # Rounded: values equal up to machine precision sort by the order of prototypes.
    for candidate in sorted(candidates, key=lambda candidate: round(candidate.instability, 4)):
        by_prototype[candidate.prototype].append(candidate)
    ranks = zip_longest(*by_prototype.values())
    interleaved = (candidate for rank in ranks for candidate in rank if candidate is not None)
    return list(islice(interleaved, limit))


def _decorated(
    ions: Ions,
    balanced: Sequence[Counts],
    geometry: GeometryLimits,
    *,
    n_lowest_energy: int = N_LOWEST_ENERGY,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Counts, Candidate | str]]:
    """Yield the decorations of all prototypes, or their rejection reasons."""
    fitting = _distinct_prototypes(ions)
    for done, prototype in enumerate(fitting, start=1):
        for counts, structure in _decorations(prototype, ions, balanced, n_lowest_energy):
            charges = dict(zip(ions.system.elements, ions.formal_charges(counts), strict=True))
            yield counts, _scaled(structure, charges, prototype.name, geometry)
        if on_progress:
            on_progress(done, len(fitting))


def _distinct_prototypes(ions: Ions) -> list[Prototype]:
    """Return prototypes within the caps, one per lattice; AFLOW has many orderings of a lattice."""
    has_polyanions = bool(center_elements(ions.cations))
    fitting = [
        prototype
        for prototype in prototypes()
        if _largest_index(prototype, ions) and (has_polyanions or not prototype.polyanions)
    ]
    lattices = [prototype.structure.get_primitive_structure() for prototype in fitting]
    return [replace(fitting[i], structure=lattices[i]) for i in unique_indices(lattices)]


def _largest_index(prototype: Prototype, ions: Ions) -> int:
    """Return the largest number of primitive cells within the caps."""
    largest = sum(ions.system.caps[el] for el in ions.anions) // prototype.n_anions
    if prototype.vacancies:
        return largest
    most_cations = sum(ions.system.caps[el] for el in ions.cations)
    return min(largest, most_cations // prototype.n_cations, MAX_INDEX)


def _decorations(
    prototype: Prototype, ions: Ions, balanced: Sequence[Counts], n_lowest_energy: int
) -> Iterator[tuple[Counts, Structure]]:
    """Yield the selected orderings of one prototype, at the volume of the prototype."""
    anion_numbers = set(map(ions.n_anions, balanced))
    orderings: dict[Counts, list[Ordering]] = defaultdict(list)
    for index in range(1, _largest_index(prototype, ions) + 1):
        if index * prototype.n_anions not in anion_numbers:
            continue
        for form in inequivalent_superlattices(index, prototype.structure)[:MAX_SUPERLATTICES]:
            structure = prototype.structure.copy()
            structure.make_supercell(form)
            supercell = Supercell(
                structure.get_reduced_structure("niggli"), ions, vacancies=prototype.vacancies
            )
            for counts, ordering in supercell.orderings(balanced):
                orderings[counts].append(ordering)
    for counts in sorted(orderings):
        for ordering in _select(orderings[counts], n_lowest_energy):
            yield counts, ordering.supercell.decorate(ordering.occupation)


def _select(orderings: Sequence[Ordering], n_lowest_energy: int) -> list[Ordering]:
    """Select by electrostatic energy, then by symmetry, each ordering once."""
    # Rounded: energies equal up to machine precision sort by the order of enumeration.
    by_energy = sorted(orderings, key=lambda ordering: round(ordering.energy, 4))
    by_symmetry = sorted(by_energy, key=lambda ordering: -ordering.point_group_order)
    selected = [*by_energy[:n_lowest_energy], *by_symmetry[:N_HIGHEST_SYMMETRY]]
    return list(dict.fromkeys(selected))


def _scaled(
    structure: Structure, charges: Mapping[str, float], prototype: str, geometry: GeometryLimits
) -> Candidate | str:
    """Scale a decorated structure by bond valences, or return the rejection reason."""
    fit = fit_volume(structure, np.array([charges[site.specie.symbol] for site in structure]))
    if fit is None or fit[1] > MAX_INSTABILITY:
        return BOND_VALENCES_OFF
    scaled, instability = fit
    if max(scaled.lattice.abc) > LENGTH_SCALE:
        return TOO_LONG
    pairs = combinations_with_replacement(charges, 2)
    anions = frozenset(symbol for symbol, charge in charges.items() if charge < 0)
    overlaps = overlap_distances(tuple(sorted(charges)), anions)
    distances = {
        (a, b): min(SAME_SIGN_DISTANCE, OVERLAP_SHARE[0] * overlaps[a, b])
        if charges[a] * charges[b] >= 0
        else min(BOND_LENGTH_MIN, OVERLAP_SHARE[1] * overlaps[a, b])
        for a, b in pairs
    }
    flaw = check_geometry(scaled, geometry, pair_distances=distances)
    return flaw.reason if flaw else Candidate(scaled, prototype, instability)
