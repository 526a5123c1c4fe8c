"""Grouping of candidates by crystal, and their novelty."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.core.candidate import Novelty
from gan_htvs.structures.matching import StructureIndex, group_structures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.structures.fingerprint import Fingerprint


class RelaxedCandidate(NamedTuple):
    """Relaxed candidate with its fingerprint and energy."""

    candidate_id: str
    fingerprint: Fingerprint
    energy_per_atom: float
    """Energy, eV/atom."""


class TrainingSet(NamedTuple):
    """Training structures of one reduced formula."""

    name: str | None = None
    """Content hash of the whole set, or of several sets; None for a campaign without generator."""
    members: Sequence[tuple[str, Structure]] = ()
    """Labels and structures."""


def group_crystals(relaxed: Sequence[RelaxedCandidate]) -> list[list[str]]:
    """Group candidates of one reduced formula and level of theory by crystal.

    The groups do not depend on the order of the candidates.

    Returns
    -------
    Ids of the candidates of each crystal, lowest energy first.
    """
    by_energy = sorted(relaxed, key=lambda c: (c.energy_per_atom, c.candidate_id))
    groups = group_structures(candidate.fingerprint for candidate in by_energy)
    return [[by_energy[i].candidate_id for i in group] for group in groups]


def look_up(
    relaxed: Iterable[RelaxedCandidate],
    reference_phases: Mapping[str, Structure],
    training: TrainingSet | None,
) -> dict[str, Novelty]:
    """Match candidates with reference phases and training structures.

    Parameters
    ----------
    relaxed
        Candidates of one reduced formula and one campaign.
    reference_phases
        Relaxed reference phases of that formula, by name; the first match counts.
    training
        Training structures of the campaign's generators; None: unknown, and so is the novelty of
        unmatched candidates.

    Returns
    -------
    Novelty of each candidate, by its id.
    """
    names = list(reference_phases)
    phases = StructureIndex(reference_phases.values())
    members = training.members if training else ()
    trained = StructureIndex(structure for _, structure in members)
    novelties = {}
    for candidate in relaxed:
        reference = phases.first(candidate.fingerprint)
        match = trained.first(candidate.fingerprint)
        is_novel = reference is None and match is None
        novelties[candidate.candidate_id] = Novelty(
            is_novel=None if is_novel and training is None else is_novel,
            reference_match=None if reference is None else names[reference],
            training_match=None if match is None else members[match][0],
            training_set=training and training.name,
        )
    return novelties
