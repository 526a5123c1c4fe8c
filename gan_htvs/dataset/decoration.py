"""Decorated prototypes: cations and anions of a chemical system on the sites of known lattices.

Every prototype is filled in every inequivalent way that fits the caps and can be charge-balanced,
also in supercells and, on host lattices, with ordered vacancies. Of the many orderings of a
composition those of lowest electrostatic energy and of highest symmetry are kept.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, islice, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.dataset.bond_valence import fit_volume
from gan_htvs.dataset.prototypes import Prototype, prototypes
from gan_htvs.dataset.site_ordering import Ordering, Supercell
from gan_htvs.dataset.skipped import TOO_LONG
from gan_htvs.dataset.sources import Collection
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import LENGTH_SCALE
from gan_htvs.structures.superlattices import inequivalent_superlattices
from gan_htvs.structures.validity import check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.core.chemical_system import Counts
    from gan_htvs.dataset.formal_charges import Ions

LOWEST_ENERGY, HIGHEST_SYMMETRY = 2, 1
"""Orderings kept of each prototype and composition, by either measure."""

MAX_SHAPES = 3
"""Superlattices tried for each index, the most compact and the most symmetric ones."""

MAX_INDEX = 2
"""Largest supercell of lattices without vacancies; the caps alone limit hosts of vacancies."""

TOTAL, PER_COMPOSITION = 1000, (6, 12)
"""Candidates wanted, and bounds on the share of each cell formula, which is drawn from as many
prototypes as possible: the chemical system decides how many formulas share."""

MAX_INSTABILITY = 0.8
"""Largest global instability index, valence units; oxides that are made have 0 to 0.3."""

STRAINED, CROWDED = "bond_valences_off", "crowded_composition"
"""Reasons for rejection beside ``TOO_LONG`` and ``RejectionReason``."""

SAME_SIGN_DISTANCE = 2.2
"""Ions of one sign come no closer, A; the shortest in known oxides are shared octahedron faces."""

BOND_LENGTH_MIN = 1.5
"""No cation comes closer to an anion, A; a vanadyl bond has 1.58."""


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
    on_progress: Callable[[int, int], None] | None = None,
) -> Collection:
    """Fill every prototype with the ions of a chemical system.

    Parameters
    ----------
    ions
        Chemical system and oxidation states.
    max_per_composition
        Structures of one cell formula; if not given, as many as make about ``TOTAL`` in all.
    on_progress
        Called with the number of prototypes done and their total.

    Returns
    -------
    Sound structures, labeled with their prototypes; matching ones may come from different ones.
    """
    balanced = tuple(ions.system.compositions(ions.oxidation_states))
    by_counts: dict[Counts, list[Candidate]] = defaultdict(list)
    found = Collection(is_named=False)
    for counts, decorated in _decorated(ions, balanced, on_progress=on_progress):
        if isinstance(decorated, Candidate):
            by_counts[counts].append(decorated)
        else:
            found.skipped.add(decorated)
    share = max_per_composition or int(np.clip(TOTAL // max(len(by_counts), 1), *PER_COMPOSITION))
    for _, candidates in sorted(by_counts.items()):
        kept = _most_plausible(candidates, share)
        found.structures += [candidate.structure for candidate in kept]
        found.labels += [candidate.prototype for candidate in kept]
        found.skipped.counts[CROWDED] += len(candidates) - len(kept)
    return found


def decorate_composition(
    ions: Ions, counts: Counts, *, lowest_energy: int = LOWEST_ENERGY
) -> list[Candidate]:
    """Fill every prototype with the ions of one cell formula.

    Parameters
    ----------
    ions
        Chemical system and oxidation states.
    counts
        Atoms of each element, charge-balanced.
    lowest_energy
        Orderings of lowest electrostatic energy taken of each prototype.

    Returns
    -------
    Sound structures, in the order in which :func:`decorate_prototypes` prefers them.
    """
    decorated = _decorated(ions, (counts,), lowest_energy=lowest_energy)
    sound = [candidate for _, candidate in decorated if isinstance(candidate, Candidate)]
    return _most_plausible(sound, len(sound))


def _most_plausible(candidates: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Take the best of each prototype by bond valences, then the second best, up to the limit."""
    by_prototype: dict[str, list[Candidate]] = defaultdict(list)
    # Rounded, so that equal sums of different machines sort by the order of prototypes.
    for candidate in sorted(candidates, key=lambda candidate: round(candidate.instability, 4)):
        by_prototype[candidate.prototype].append(candidate)
    turns = zip_longest(*by_prototype.values())
    in_turn = (candidate for turn in turns for candidate in turn if candidate is not None)
    return list(islice(in_turn, limit))


def _decorated(
    ions: Ions,
    balanced: Sequence[Counts],
    *,
    lowest_energy: int = LOWEST_ENERGY,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Counts, Candidate | str]]:
    """Yield the decorations of all prototypes, or the reasons why they are not sound."""
    fitting = _distinct_prototypes(ions)
    for done, prototype in enumerate(fitting, start=1):
        for counts, structure in _decorations(prototype, ions, balanced, lowest_energy):
            charges = dict(zip(ions.system.elements, ions.formal_charges(counts), strict=True))
            yield counts, _settled(structure, charges, prototype.name)
        if on_progress:
            on_progress(done, len(fitting))


def _distinct_prototypes(ions: Ions) -> list[Prototype]:
    """Choose the prototypes that fit the caps; AFLOW names many orderings of one lattice."""
    fitting = [prototype for prototype in prototypes() if _largest_index(prototype, ions)]
    lattices = [prototype.structure.get_primitive_structure() for prototype in fitting]
    return [replace(fitting[i], structure=lattices[i]) for i in unique_indices(lattices)]


def _largest_index(prototype: Prototype, ions: Ions) -> int:
    """Return how many primitive cells the caps leave room for."""
    largest = sum(ions.system.caps[el] for el in ions.anions) // prototype.n_anions
    if prototype.vacancies:
        return largest
    most_cations = sum(ions.system.caps[el] for el in ions.cations)
    return min(largest, most_cations // prototype.n_cations, MAX_INDEX)


def _decorations(
    prototype: Prototype, ions: Ions, balanced: Sequence[Counts], lowest_energy: int
) -> Iterator[tuple[Counts, Structure]]:
    """Yield the chosen orderings of one prototype, at the volume of the prototype."""
    possible = set(map(ions.n_anions, balanced))
    found: dict[Counts, list[Ordering]] = defaultdict(list)
    for index in range(1, _largest_index(prototype, ions) + 1):
        if index * prototype.n_anions not in possible:
            continue
        for form in inequivalent_superlattices(index, prototype.structure)[:MAX_SHAPES]:
            structure = prototype.structure.copy()
            structure.make_supercell(form)
            supercell = Supercell(
                structure.get_reduced_structure("niggli"), ions, vacancies=prototype.vacancies
            )
            for counts, ordering in supercell.orderings(balanced):
                found[counts].append(ordering)
    for counts in sorted(found):
        for ordering in _best(found[counts], lowest_energy):
            yield counts, ordering.supercell.fill(ordering.occupation)


def _best(orderings: Sequence[Ordering], lowest_energy: int) -> list[Ordering]:
    """Choose by electrostatic energy, then by symmetry; no ordering twice."""
    # Rounded, so that equal energies of different machines sort by the order of enumeration.
    by_energy = sorted(orderings, key=lambda ordering: round(ordering.energy, 4))
    by_symmetry = sorted(by_energy, key=lambda ordering: -ordering.point_group_order)
    chosen = dict.fromkeys([*by_energy[:lowest_energy], *by_symmetry[:HIGHEST_SYMMETRY]])
    return list(chosen)


def _settled(structure: Structure, charges: Mapping[str, float], prototype: str) -> Candidate | str:
    """Scale a decoration to a sound volume, or return the reason why there is none."""
    fit = fit_volume(structure, np.array([charges[site.specie.symbol] for site in structure]))
    if fit is None or fit[1] > MAX_INSTABILITY:
        return STRAINED
    scaled, instability = fit
    if max(scaled.lattice.abc) > LENGTH_SCALE:
        return TOO_LONG
    pairs = combinations_with_replacement(charges, 2)
    distances = {
        (a, b): SAME_SIGN_DISTANCE if charges[a] * charges[b] >= 0 else BOND_LENGTH_MIN
        for a, b in pairs
    }
    reason = check_geometry(scaled, pair_distances=distances)
    return reason or Candidate(scaled, prototype, instability)
