"""Relax a training set and add structures of compositions that have too few."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.core.files import write_atomically
from gan_htvs.dataset.skipped import IMPLAUSIBLE, TOO_LONG, UNSTABLE
from gan_htvs.dataset.sources import Collection
from gan_htvs.dataset.training_set import collect
from gan_htvs.structures.declash import declash
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import LENGTH_SCALE, encode
from gan_htvs.structures.random_crystals import symmetric_crystals
from gan_htvs.structures.validity import RejectionReason, check_geometry
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.potentials.relaxation import Relaxations
    from gan_htvs.thermodynamics.hull import ReferenceSet

MIN_STRUCTURES = 3
"""Random symmetric crystals are added to compositions with fewer structures."""

ROUNDS, CRYSTALS_PER_ROUND = 3, 4
"""Rounds in which crystals are added, and crystals per composition and round."""

POTENTIAL_ERROR, UNCONVERGED = "potential_raised", "not_converged"
"""Rejection reasons in addition to those of :mod:`gan_htvs.dataset.skipped`."""


@dataclass
class RelaxedStructures(Collection):
    """Unique relaxed structures of a campaign's chemical system, lowest energy first.

    Attributes
    ----------
    level_of_theory
        Level of theory of the relaxations.
    """

    level_of_theory: str = ""

    def save(self, path: Path, campaign: Campaign) -> None:
        """Write a .npz file for ``dataset.source: array``, with energies and origins."""
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
    """Relax the structures of the campaign's source and keep unique ones near the hull.

    Random symmetric crystals are added to compositions with fewer than ``MIN_STRUCTURES``.

    Parameters
    ----------
    campaign
        Chemical system, source, and ``dataset.max_energy_above_hull``.
    relaxations
        Relaxer with a cache; with a journal, a killed run continues where it stopped.
    on_progress
        Called with the name of the step, the number of finished items and the total.

    Raises
    ------
    UserError
        If the source, the potential or the journal fails, or no structure is left.
    """

    def report(step: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(step, done, total) if on_progress else None

    phases = phases_of(campaign, by_potential=True)  # fails before any work
    source = collect(
        campaign.chemical_system,
        campaign.oxidation_states,
        campaign.dataset,
        geometry=campaign.geometry,
        on_progress=report("collect structures"),
    )
    hull = relaxations.references(phases, on_progress=report("relax reference phases"))
    kept = RelaxedStructures(
        skipped=deepcopy(source.skipped),
        notes=source.notes,
        labels_are_files=False,
        level_of_theory=relaxations.settings.level_of_theory,
    )
    structures, labels, step = source.structures, source.labels, "relax"
    for number in range(1, ROUNDS + 2):
        relaxed = relaxations.relax(structures, on_progress=report(step))
        kept = _with_relaxed(kept, zip(labels, relaxed, strict=True), campaign, hull)
        if number <= ROUNDS:
            structures = _fill(kept, number, campaign)
            step = f"fill, round {number}"
            labels = [
                f"random symmetric crystal, round {number}, {i}" for i in range(len(structures))
            ]
    kept.require_structures(campaign.dataset.source, campaign.chemical_system)
    return kept


def _with_relaxed(
    kept: RelaxedStructures,
    relaxed: Iterable[tuple[str, RelaxedStructure | None]],
    campaign: Campaign,
    hull: ReferenceSet,
) -> RelaxedStructures:
    """Add valid relaxed structures near the hull, and keep each crystal once."""
    for label, result in relaxed:
        reason, energy = _rejection(result, campaign, hull)
        if reason is not None or result is None:
            kept.skipped.add(str(reason))
        else:
            kept.structures.append(result.structure)
            kept.labels.append(label)
            kept.energies_above_hull.append(energy)
    # Rounded: duplicates sort by label, not by the noise of the optimizer.
    energies, labels = kept.energies_above_hull, kept.labels
    order = sorted(range(len(labels)), key=lambda i: (round(energies[i], 3), labels[i]))
    unique = unique_indices(kept.structures[i] for i in order)
    return kept.subset([order[i] for i in unique], RejectionReason.DUPLICATE)


def _rejection(
    result: RelaxedStructure | None, campaign: Campaign, hull: ReferenceSet
) -> tuple[str | None, float]:
    """Return the rejection reason, or None, and the energy above the hull, eV/atom."""
    if result is None:
        return POTENTIAL_ERROR, math.nan
    if (flaw := check_geometry(result.structure, campaign.geometry)) is not None:
        return flaw.reason, math.nan
    if not result.converged:
        return UNCONVERGED, math.nan
    if max(result.structure.lattice.abc) > LENGTH_SCALE:
        return TOO_LONG, math.nan
    energy = hull.decomposition_energy(result.structure.composition, result.energy_per_atom)
    if energy > campaign.dataset.max_energy_above_hull:
        return UNSTABLE, energy
    lowest = lowest_plausible(
        campaign.lowest_decomposition_energy,
        hull.uncovered(result.structure.composition),
    )
    reason = None if implausible_reason(energy, lowest) is None else IMPLAUSIBLE
    return reason, max(energy, 0.0)


def _fill(kept: RelaxedStructures, number: int, campaign: Campaign) -> list[Structure]:
    """Generate random symmetric crystals of every composition with too few structures."""
    system = campaign.chemical_system
    n_structures = Counter(system.counts(structure) for structure in kept.structures)
    limits = campaign.geometry.for_ions(system.elements, campaign.oxidation_states)
    crystals: list[Structure] = []
    for i, counts in enumerate(system.compositions(campaign.oxidation_states)):
        if n_structures[counts] < MIN_STRUCTURES:
            rng = np.random.default_rng([number, i])
            amounts = dict(zip(system.elements, counts, strict=True))
            crystals += islice(symmetric_crystals(amounts, rng, limits), CRYSTALS_PER_ROUND)
    valid = []
    for crystal in declash(crystals, limits, shrinks_loose=True).structures:
        if (flaw := check_geometry(crystal, limits)) is None:
            valid.append(crystal)
        else:
            kept.skipped.add(flaw.reason)
    return valid
