"""A training set of relaxed structures: what a source has, what it lacks, and what survives."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.assessment import believes
from gan_htvs.dataset import collect
from gan_htvs.dataset.skipped import TOO_LONG, UNSTABLE, Skipped
from gan_htvs.declash import declash
from gan_htvs.errors import UserError
from gan_htvs.files import write_atomically
from gan_htvs.matching import unique_indices
from gan_htvs.pointcloud import LENGTH_SCALE, encode
from gan_htvs.proposers.baselines import symmetric_crystals
from gan_htvs.thermodynamics.references import phases_of
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import RelaxedStructure
    from gan_htvs.relaxation import Relaxations
    from gan_htvs.thermodynamics.hull import ReferenceSet

ENOUGH = 3
"""Structures of a composition below which random symmetric crystals are added."""

ROUNDS, CRYSTALS_PER_ROUND = 3, 4
"""Tries to fill a composition, and crystals in each."""

RAISED, UNCONVERGED, BELIEF = "potential_raised", "not_converged", "too_far_below_hull"
"""Reasons for rejection beside those of :mod:`gan_htvs.dataset.skipped`."""


@dataclass
class RelaxedStructures:
    """Unique relaxed structures of a campaign's chemical system.

    Attributes
    ----------
    structures, labels, energies_above_hull
        Lowest energy first; eV/atom.
    skipped
        What was left out, before relaxation and after it.
    level_of_theory
        What relaxed them.
    """

    level_of_theory: str
    structures: list[Structure] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    energies_above_hull: list[float] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def save(self, path: Path, campaign: Campaign) -> None:
        """Write a .npz file that ``dataset.source: array`` reads, with energies and origins."""
        system = campaign.chemical_system
        metadata = {
            "caps": list(system.caps.items()),
            "level_of_theory": self.level_of_theory,
            "campaign": campaign.model_dump(
                mode="json", exclude={"dataset": {"path"}, "generator": True}
            ),
            "rejected": self.skipped.by_reason,
            "versions": {name: version(name) for name in ("gan-htvs", "pymatgen", "chgnet")},
        }
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            images=encode(self.structures, system),
            energy_above_hull=np.array(self.energies_above_hull, dtype=np.float32),
            labels=np.array(self.labels),
            metadata=np.array(json.dumps(metadata, sort_keys=True)),
        )
        write_atomically(path, buffer.getvalue())


def relax_dataset(
    campaign: Campaign,
    relaxations: Relaxations,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> RelaxedStructures:
    """Relax the structures of the campaign's source and keep those near the hull, each once.

    Compositions with fewer than ``ENOUGH`` structures get random symmetric crystals.

    Parameters
    ----------
    campaign
        Chemical system, source, and ``dataset.max_energy_above_hull``.
    relaxations
        Relaxes and remembers; with a journal, a run that was killed goes on where it stopped.
    on_progress
        Called with what is being done, the number done and the total.

    Raises
    ------
    UserError
        If the source, the potential or the journal fails, or nothing survives.
    """

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(what, done, total) if on_progress else None

    phases = phases_of(campaign, by_potential=True)  # refused before any work
    source = collect(
        campaign.chemical_system,
        campaign.oxidation_states,
        campaign.dataset,
        on_progress=told("collect structures"),
    )
    hull = relaxations.references(phases, on_progress=told("relax known phases"))
    kept = RelaxedStructures(relaxations.level_of_theory, skipped=source.skipped.copy())
    pool = _Pool(campaign, hull, kept)
    relaxed = relaxations.relax(source.structures, on_progress=told("relax"))
    pool.judge(relaxed, source.labels)
    for number in range(1, ROUNDS + 1):
        crystals, labels = pool.fill(number)
        relaxed = relaxations.relax(crystals, on_progress=told(f"fill, round {number}"))
        pool.judge(relaxed, labels)
    if not pool.kept.structures:
        raise UserError(
            f"dataset.source {campaign.dataset.source!r}: no structure of "
            f"{campaign.chemical_system.chemsys} survived; left out were {pool.kept.skipped}: "
            "raise dataset.max_energy_above_hull or use another source."
        )
    return pool.kept


class _Pool:
    """Structures that were judged, the unique ones of them kept."""

    def __init__(self, campaign: Campaign, hull: ReferenceSet, kept: RelaxedStructures) -> None:
        self.campaign = campaign
        self.system = campaign.chemical_system
        self.hull = hull
        self.kept = kept

    def judge(self, relaxed: Sequence[RelaxedStructure | None], labels: Sequence[str]) -> None:
        """Take in what is sound, near the hull and new."""
        kept = self.kept
        found = list(zip(kept.energies_above_hull, kept.labels, kept.structures, strict=True))
        for result, label in zip(relaxed, labels, strict=True):
            reason = self._problem(result)
            if reason is not None or result is None:
                kept.skipped.add(str(reason))
            else:
                found.append((self._energy(result), label, result.structure))
        # Rounded, so that duplicates sort by label and not by the noise of the optimizer.
        found.sort(key=lambda each: (round(each[0], 3), each[1]))
        unique = unique_indices([structure for _, _, structure in found])
        kept.skipped.counts[RejectionReason.DUPLICATE] += len(found) - len(unique)
        kept.energies_above_hull = [found[i][0] for i in unique]
        kept.labels = [found[i][1] for i in unique]
        kept.structures = [found[i][2] for i in unique]

    def _energy(self, result: RelaxedStructure) -> float:
        return self.hull.energy_above_hull(result.structure.composition, result.energy_per_atom)

    def _problem(self, result: RelaxedStructure | None) -> str | None:
        if result is None:
            return RAISED
        if (problem := check_geometry(result.structure)) is not None:
            return problem
        if not result.converged:
            return UNCONVERGED
        if max(result.structure.lattice.abc) > LENGTH_SCALE:
            return TOO_LONG
        energy = self._energy(result)
        if energy > self.campaign.dataset.max_energy_above_hull:
            return UNSTABLE
        return None if believes(energy) else BELIEF

    def fill(self, number: int) -> tuple[list[Structure], list[str]]:
        """Propose random symmetric crystals of every composition that lacks structures."""
        have = Counter(self.system.counts(structure) for structure in self.kept.structures)
        crystals: list[Structure] = []
        for i, counts in enumerate(self.system.compositions(self.campaign.oxidation_states)):
            if have[counts] < ENOUGH:
                rng = np.random.default_rng([number, i])
                amounts = dict(zip(self.system.elements, counts, strict=True))
                crystals += islice(symmetric_crystals(amounts, rng), CRYSTALS_PER_ROUND)
        sound = []
        for crystal in declash(crystals).structures:
            if (problem := check_geometry(crystal)) is None:
                sound.append(crystal)
            else:
                self.kept.skipped.add(problem)
        return sound, [f"random symmetric crystal, round {number}, {i}" for i in range(len(sound))]
