"""Add structures that a campaign found to the training set of its generator.

The structures of the source are never dropped. If the set would exceed its largest size, structures
that were found are dropped one by one, each time the one of highest energy of the most common
framework: crystals have the same framework if they match with all metals exchanged for one metal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.core import Element, Structure

from gan_htvs.core.candidate import Ending
from gan_htvs.core.stages import ScreeningStep
from gan_htvs.structures.matching import UniqueStructures, group_structures
from gan_htvs.structures.point_cloud import LENGTH_SCALE, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.candidate import Proposal
    from gan_htvs.dataset.training_set import Dataset


class FoundStructure(NamedTuple):
    """A relaxed structure of a campaign."""

    label: str
    """Id of the candidate."""
    structure: Structure
    energy_above_hull: float
    """At the level of theory of the prescreen, eV/atom."""


class Enlarged(NamedTuple):
    """An enlarged training set, and counts of the structures that were found."""

    dataset: Dataset
    n_within: int
    """Found structures within the window."""
    n_new: int
    """Those among them that are unique and match no structure of the previous set."""
    n_dropped: int
    """Structures that were dropped because the set would be too large."""


def sound_structures(proposals: Iterable[Proposal]) -> list[FoundStructure]:
    """Return the converged relaxations of a prescreen with a sound geometry and energy.

    Structures that the prescreen rejected only because of the hull window or as duplicates are
    included. Those with an implausibly low energy, or on which the second potential disagreed, are
    not.
    """
    sound = []
    for proposal in proposals:
        verdict, relaxation = proposal.prescreen, proposal.relaxation
        if verdict is None or relaxation is None or relaxation.relaxed is None:
            continue
        energy = verdict.decomposition_energy
        if energy is None:
            continue
        is_implausible = verdict.rejected_at is ScreeningStep.WINDOW and energy < 0
        is_doubtful = is_implausible or verdict.rejected_at is ScreeningStep.CONFIRMATION
        if relaxation.ending is Ending.CONVERGED and not is_doubtful:
            structure = relaxation.relaxed.structure
            sound.append(FoundStructure(proposal.candidate_id, structure, max(energy, 0.0)))
    return sound


def enlarge(
    dataset: Dataset,
    found: Iterable[FoundStructure],
    *,
    max_energy_above_hull: float,
    max_structures: int,
) -> Enlarged:
    """Add new structures within a window above the hull to a training set.

    Parameters
    ----------
    dataset
        Training set, which may include structures that were found before.
    found
        Structures in any order; of equal crystals the one of lowest energy counts.
    max_energy_above_hull
        Window, eV/atom.
    max_structures
        Largest size of the enlarged set; at least the number of structures from the source.

    Raises
    ------
    ValueError
        If ``max_structures`` is less than the number of structures from the source.
    """
    n_source = len(dataset) - dataset.n_found
    if max_structures < n_source:
        raise ValueError(f"max_structures ({max_structures}) is below the source ({n_source})")
    within = [one for one in found if one.energy_above_hull <= max_energy_above_hull]
    # Rounded: duplicates sort by label, not by the noise of the optimizer.
    within.sort(key=lambda one: (round(one.energy_above_hull, 3), one.label))
    previous = dataset.structures()
    known = UniqueStructures(previous)
    new = [
        one
        for one in within
        if max(one.structure.lattice.abc) <= LENGTH_SCALE and known.add(one.structure)
    ]
    if not new:
        return Enlarged(dataset, len(within), 0, 0)
    energies = dataset.energies_above_hull
    if energies is None:
        energies = np.full(len(dataset), np.nan)
    energies = np.append(energies, [one.energy_above_hull for one in new])
    structures = [*previous, *(one.structure for one in new)]
    system = dataset.system
    larger = replace(
        dataset,
        images=np.concatenate([dataset.images, encode(structures[len(dataset) :], system)]),
        counts=np.concatenate(
            [dataset.counts, np.array([system.counts(one.structure) for one in new])]
        ),
        labels=(*dataset.labels, *(one.label for one in new)),
        energies_above_hull=energies,
        n_found=dataset.n_found + len(new),
    )
    n_dropped = max(0, len(larger) - max_structures)
    if n_dropped:
        dropped = _crowded(structures, energies, n_source, n_dropped)
        kept = np.setdiff1d(np.arange(len(larger)), dropped)
        larger = replace(larger.subset(kept), n_found=larger.n_found - n_dropped)
    return Enlarged(larger, len(within), len(new), n_dropped)


def _crowded(
    structures: Sequence[Structure], energies: NDArray[np.float64], n_source: int, n: int
) -> list[int]:
    """Choose ``n`` structures to drop, of the most common frameworks and of highest energy.

    The first ``n_source`` structures count for their frameworks, but are not chosen.
    """
    groups = group_structures(map(_framework, structures))
    sizes = [len(group) for group in groups]
    found = [
        sorted((i for i in group if i >= n_source), key=lambda i: float(energies[i]))
        for group in groups
    ]
    dropped = []
    for _ in range(n):
        number = max(
            (number for number, members in enumerate(found) if members),
            key=lambda number: (sizes[number], float(energies[found[number][-1]])),
        )
        dropped.append(found[number].pop())
        sizes[number] -= 1
    return dropped


def _framework(structure: Structure) -> Structure:
    """Return a copy in which all metals are the same."""
    metals = [symbol for symbol in structure.symbol_set if Element(symbol).is_metal]
    framework = structure.copy(site_properties={})
    framework.replace_species(dict.fromkeys(metals, "Fe"))
    return framework
