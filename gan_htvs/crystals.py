"""Which candidates are one crystal, and whether anybody knew it before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.candidate import Novelty
from gan_htvs.matching import KnownStructures, UniqueStructures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.fingerprint import Fingerprint


class RelaxedCandidate(NamedTuple):
    """A relaxed candidate."""

    candidate_id: str
    fingerprint: Fingerprint
    energy_per_atom: float
    """eV/atom; of one crystal, the lowest stands for all."""


@dataclass
class Crystal:
    """Candidates that match: the lowest in energy, and the others in the order of theirs."""

    candidate_id: str
    duplicates: list[str] = field(default_factory=list)


class TrainingSet(NamedTuple):
    """Structures of one reduced formula that generators learnt from."""

    name: str
    """Content hash of the whole set, or of several together."""
    members: Sequence[tuple[str, Structure]]
    """Label and structure of each."""


def sort_into_crystals(relaxed: Sequence[RelaxedCandidate]) -> list[Crystal]:
    """Group candidates of one reduced formula and level of theory, lowest energies first.

    Which candidates are there decides the groups, and not the order in which they came.
    """
    in_order = sorted(relaxed, key=lambda each: (each.energy_per_atom, each.candidate_id))
    unique = UniqueStructures()
    crystals: dict[int, Crystal] = {}
    for each in in_order:
        position = unique.place(each.fingerprint)
        if position in crystals:
            crystals[position].duplicates.append(each.candidate_id)
        else:
            crystals[position] = Crystal(each.candidate_id)
    return list(crystals.values())


def look_up(
    relaxed: Iterable[RelaxedCandidate],
    known_phases: Mapping[str, Structure],
    training: TrainingSet | None,
    *,
    learnt: bool,
) -> dict[str, Novelty]:
    """Tell for each candidate which known structure it is, if any.

    Parameters
    ----------
    relaxed
        Candidates of one reduced formula and one campaign.
    known_phases
        RelaxedStructure reference phases of that formula, by name.
    training
        What the campaign's generators learnt from, if that is known.
    learnt
        Whether the campaign has a generator: if what it learnt from is not known, whether a
        candidate is novel is not known either.

    Returns
    -------
    By the id of the candidate.
    """
    names = sorted(known_phases)
    phases = KnownStructures(known_phases[name] for name in names)
    seen = KnownStructures(structure for _, structure in training.members) if training else None
    found = {}
    for each in relaxed:
        reference = next(iter(phases.positions(each.fingerprint)), None)
        match = next(iter(seen.positions(each.fingerprint)), None) if seen else None
        known = reference is not None or match is not None
        found[each.candidate_id] = Novelty(
            is_novel=None if learnt and training is None and not known else not known,
            reference_match=None if reference is None else names[reference],
            training_match=None
            if training is None or match is None
            else training.members[match][0],
            training_set=training and training.name,
        )
    return found
