"""Which candidates are one crystal, and whether anybody knew it before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.core.candidate import Novelty
from gan_htvs.structures.matching import StructureIndex, group_structures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.structures.fingerprint import Fingerprint


class RelaxedCandidate(NamedTuple):
    """A relaxed candidate."""

    candidate_id: str
    fingerprint: Fingerprint
    energy_per_atom: float
    """eV/atom; of one crystal, the lowest stands for all."""


class TrainingSet(NamedTuple):
    """Structures of one reduced formula that generators learned from."""

    name: str
    """Content hash of the whole set, or of several together."""
    members: Sequence[tuple[str, Structure]]
    """Label and structure of each."""


def group_crystals(relaxed: Sequence[RelaxedCandidate]) -> list[list[str]]:
    """Group candidates of one reduced formula and level of theory by crystal.

    The groups depend on which candidates there are, and not on their order.

    Returns
    -------
    Ids of the candidates of each crystal, lowest energies first.
    """
    in_order = sorted(relaxed, key=lambda one: (one.energy_per_atom, one.candidate_id))
    groups = group_structures(one.fingerprint for one in in_order)
    return [[in_order[i].candidate_id for i in group] for group in groups]


def look_up(
    relaxed: Iterable[RelaxedCandidate],
    reference_phases: Mapping[str, Structure],
    training: TrainingSet | None,
    *,
    has_generator: bool,
) -> dict[str, Novelty]:
    """Return for each candidate which known structure it is, if any.

    Parameters
    ----------
    relaxed
        Candidates of one reduced formula and one campaign.
    reference_phases
        RelaxedStructure reference phases of that formula, by name.
    training
        What the campaign's generators learned from, if that is known.
    has_generator
        Whether the campaign has a generator: if what it learned from is not known, whether a
        candidate is novel is not known either.

    Returns
    -------
    By the id of the candidate.
    """
    names = sorted(reference_phases)
    phases = StructureIndex(reference_phases[name] for name in names)
    members = training.members if training else ()
    learned = StructureIndex(structure for _, structure in members)
    novelties = {}
    for candidate in relaxed:
        reference = phases.first(candidate.fingerprint)
        match = learned.first(candidate.fingerprint)
        is_novel = reference is None and match is None
        novelties[candidate.candidate_id] = Novelty(
            is_novel=None if is_novel and has_generator and training is None else is_novel,
            reference_match=None if reference is None else names[reference],
            training_match=None if match is None else members[match][0],
            training_set=training and training.name,
        )
    return novelties
