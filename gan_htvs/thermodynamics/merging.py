"""Reference phases that relax to the same crystal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from gan_htvs.structures.crystals import RelaxedCandidate, group_crystals
from gan_htvs.structures.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gan_htvs.core.candidate import RelaxedStructure

SAME_ENERGY = 0.002
"""Largest difference between relaxations of one crystal, eV/atom. The matcher alone cannot
distinguish a crystal from a slightly distorted one."""


def merged_phases(relaxed: Mapping[str, RelaxedStructure]) -> dict[str, str]:
    """Find reference phases that relaxed to the same crystal.

    VO2 M1, for example, relaxes to rutile with interatomic potentials.

    Parameters
    ----------
    relaxed
        Relaxations of reference phases at one level of theory, by name.

    Returns
    -------
    For each phase that is not the one of lowest energy of its crystal, the name of that one.
    """
    by_formula: dict[str, list[str]] = defaultdict(list)
    for name, result in relaxed.items():
        by_formula[result.structure.composition.reduced_formula].append(name)
    merged: dict[str, str] = {}
    for names in by_formula.values():
        if len(names) == 1:
            continue
        energies = {name: relaxed[name].energy_per_atom for name in names}
        crystals = group_crystals(
            [
                RelaxedCandidate(
                    name, Fingerprint.from_structure(relaxed[name].structure), energies[name]
                )
                for name in names
            ]
        )
        for lowest, *others in crystals:
            limit = energies[lowest] + SAME_ENERGY
            merged |= {name: lowest for name in others if energies[name] <= limit}
    return merged
