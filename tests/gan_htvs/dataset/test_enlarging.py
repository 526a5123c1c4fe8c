"""Enlarging of a training set with relaxed structures of a campaign."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import Ending, PrescreenVerdict, RelaxationResult
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import ScreeningStep
from gan_htvs.dataset.enlarging import FoundStructure, enlarge, sound_structures
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.structures.point_cloud import encode
from tests.helpers import cesium_chloride, layered, proposal, relaxed, rocksalt

SYSTEM = ChemicalSystem(caps={"Mg": 2, "Mn": 2, "O": 4})
LIMITS = {"max_energy_above_hull": 0.3, "max_structures": 9}


def dataset_of(*structures: Structure, **fields) -> Dataset:
    counts = np.array([SYSTEM.counts(structure) for structure in structures])
    labels = tuple(f"source {i}" for i in range(len(structures)))
    return Dataset(SYSTEM, encode(structures, SYSTEM), counts, labels, **fields)


def stretched(factor: float) -> Structure:
    """Make layers of Mg and Mn in another cell, which is another crystal."""
    crystal = layered()
    a, _, c = crystal.lattice.abc
    lattice = Lattice.tetragonal(a * factor, c / factor**2)
    return Structure(lattice, crystal.species, crystal.frac_coords)


def labels(dataset: Dataset) -> list[str]:
    return list(dataset.labels)


def test_new_structures_within_the_window_join_once():
    source = dataset_of(layered(), energies_above_hull=np.array([0.1]))
    found = [
        FoundStructure("known", layered(length=4.4), 0.0),
        FoundStructure("high", stretched(0.7), 0.31),
        FoundStructure("second", stretched(1.35), 0.2),
        FoundStructure("first", stretched(1.36), 0.15),
    ]
    enlarged = enlarge(source, found, **LIMITS)
    assert (enlarged.n_within, enlarged.n_new, enlarged.n_dropped) == (3, 1, 0)
    assert labels(enlarged.dataset) == ["source 0", "first"]
    assert enlarged.dataset.energies_above_hull == pytest.approx([0.1, 0.15])
    assert enlarged.dataset.n_found == 1
    assert enlarged.dataset.hash != source.hash
    again = enlarge(enlarged.dataset, reversed(found), **LIMITS)
    assert again.n_new == 0
    assert again.dataset is enlarged.dataset
    assert enlarge(source, reversed(found), **LIMITS).dataset.hash == enlarged.dataset.hash


def test_structures_of_unknown_energy_weigh_as_the_highest_known_one():
    found = [FoundStructure("a", stretched(0.7), 0.0), FoundStructure("b", stretched(1.35), 0.2)]
    dataset = enlarge(dataset_of(layered()), found, **LIMITS).dataset
    weights = dataset.boltzmann_weights(0.1)
    assert weights == pytest.approx(np.exp([-2, 0, -2]))
    restored = Dataset.from_document(dataset.as_document())
    assert restored.boltzmann_weights(0.1) == pytest.approx(weights)
    assert (restored.hash, restored.n_found) == (dataset.hash, 2)


def test_highest_structure_of_the_most_common_framework_is_dropped():
    source = dataset_of(stretched(1.2))
    found = [
        FoundStructure("rare", stretched(0.7), 0.29),
        FoundStructure("low", stretched(1.35), 0.1),
        FoundStructure("common", layered(), 0.2),
    ]
    three = enlarge(source, found, max_energy_above_hull=0.3, max_structures=3)
    assert three.n_dropped == 1
    assert "source 0" in three.dataset.labels
    assert len(three.dataset) == len(three.dataset.images) == 3
    assert three.dataset.n_found == 2
    only = enlarge(source, found, max_energy_above_hull=0.3, max_structures=1)
    assert labels(only.dataset) == ["source 0"]
    with pytest.raises(ValueError, match="source"):
        enlarge(dataset_of(layered(), stretched(1.35)), found, **(LIMITS | {"max_structures": 1}))


def test_crowding_counts_frameworks_with_all_metals_exchanged():
    """Two orderings of one framework crowd it, although another structure is higher."""
    alternating = _two_and_two(layered() * (1, 1, 2))
    found = [
        FoundStructure("rare", stretched(0.7), 0.29),
        FoundStructure("same framework", alternating, 0.1),
    ]
    source = dataset_of(layered())
    enlarged = enlarge(source, found, max_energy_above_hull=0.3, max_structures=2)
    assert labels(enlarged.dataset) == ["source 0", "rare"]


def _two_and_two(structure: Structure) -> Structure:
    """Place Mg on the first two and Mn on the last two metal sites."""
    metals = [i for i, site in enumerate(structure) if site.species_string != "O"]
    for number, i in enumerate(sorted(metals, key=lambda i: structure[i].c)):
        structure.replace(i, "Mg" if number < 2 else "Mn")
    return structure.get_sorted_structure()


@pytest.mark.parametrize(
    ("energy", "rejected_at", "ending", "is_sound"),
    [
        (0.1, None, Ending.CONVERGED, True),
        (-0.02, None, Ending.CONVERGED, True),
        (0.4, ScreeningStep.WINDOW, Ending.CONVERGED, True),
        (0.1, ScreeningStep.RELAXED_DUPLICATE, Ending.CONVERGED, True),
        (-0.5, ScreeningStep.WINDOW, Ending.CONVERGED, False),
        (0.1, ScreeningStep.CONFIRMATION, Ending.CONVERGED, False),
        (None, ScreeningStep.GEOMETRY, Ending.UNSOUND, False),
        (0.1, None, Ending.OUT_OF_STEPS, False),
    ],
)
def test_only_sound_converged_relaxations_are_learned(energy, rejected_at, ending, is_sound):
    verdict = PrescreenVerdict(decomposition_energy=energy, rejected_at=rejected_at)
    result = RelaxationResult(ending=ending, relaxed=relaxed(rocksalt()))
    one = proposal("c1", cesium_chloride())
    one = one.model_copy(update={"prescreen": verdict, "relaxation": result})
    sound = sound_structures([one, proposal("c2", rocksalt())])
    assert [(item.label, item.energy_above_hull) for item in sound] == (
        [("c1", max(energy, 0.0))] if is_sound else []
    )
