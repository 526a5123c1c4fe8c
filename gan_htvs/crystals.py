"""Which candidates are one crystal, and whether anybody knew it before."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.candidate import Novelty
from gan_htvs.matching import KnownStructures, UniqueStructures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.fingerprint import Fingerprint


class Find(NamedTuple):
    """A relaxed candidate."""

    candidate_id: str
    fingerprint: Fingerprint
    energy_per_atom: float
    """eV/atom; of one crystal, the lowest stands for all."""
    checkpoint: str | None = None
    """sha256 of the generator that proposed it."""


@dataclass(frozen=True)
class LearntFrom:
    """Training structures of one formula.

    Attributes
    ----------
    training_set
        Content hash of the whole set.
    labels, structures
        (n,) each.
    """

    training_set: str
    labels: Sequence[str] = ()
    structures: Sequence[Structure] = ()


@dataclass
class Crystal:
    """Candidates that match: the lowest in energy, and the others in the order of theirs."""

    candidate_id: str
    duplicates: list[str] = field(default_factory=list)


def sort_into_crystals(finds: Sequence[Find]) -> list[Crystal]:
    """Group the candidates of one reduced formula, lowest energies first.

    Which candidates are there decides the groups, and not the order in which they came.
    """
    in_order = sorted(finds, key=lambda find: (find.energy_per_atom, find.candidate_id))
    unique = UniqueStructures()
    crystals: dict[int, Crystal] = {}
    for find in in_order:
        position = unique.place(find.fingerprint)
        if position in crystals:
            crystals[position].duplicates.append(find.candidate_id)
        else:
            crystals[position] = Crystal(find.candidate_id)
    return list(crystals.values())


def look_up(
    finds: Sequence[Find],
    known_phases: Mapping[str, Structure],
    training: Mapping[str, LearntFrom],
) -> dict[str, Novelty]:
    """Tell for each candidate which known structure it is, if any.

    Parameters
    ----------
    finds
        Candidates of one reduced formula.
    known_phases
        Relaxed reference phases of that formula, by name.
    training
        What each generator learnt from, by the sha256 of its checkpoint; a candidate is compared
        with what its own generator has seen.

    Returns
    -------
    By the id of the candidate.
    """
    names = sorted(known_phases)
    phases = KnownStructures(known_phases[name] for name in names)
    learnt: dict[str, KnownStructures] = defaultdict(KnownStructures)
    for checkpoint, seen in training.items():
        learnt[checkpoint] = KnownStructures(seen.structures)
    found = {}
    for find in finds:
        reference = next(iter(phases.positions(find.fingerprint)), None)
        own, match = training.get(find.checkpoint or ""), None
        if own is not None:
            match = next(iter(learnt[find.checkpoint or ""].positions(find.fingerprint)), None)
        found[find.candidate_id] = Novelty(
            is_novel=reference is None and match is None,
            reference_match=None if reference is None else names[reference],
            training_match=None if own is None or match is None else own.labels[match],
            training_set=own and own.training_set,
        )
    return found
