from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.chemistry import ChemicalSystem
from gan_htvs.errors import UserError
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.sampling import sample_composition
from gan_htvs.generator.training import train
from gan_htvs.matching import unique_indices
from gan_htvs.pointcloud import decode, encode
from gan_htvs.validity import RejectionReason, check_geometry

MG_O = ChemicalSystem(caps={"Mg": 3, "O": 4})
PARAMETERS = replace(
    PRESETS["paper"],
    width=0.1,
    noise_dim=8,
    critic_steps=2,
    generator_learning_rate=2e-3,
    critic_learning_rate=2e-3,
    classifier_learning_rate=2e-3,
)


@pytest.fixture(scope="module")
def trained() -> TrainedGenerator:
    rng = np.random.default_rng(0)
    cells = [
        Structure(
            Lattice.from_parameters(*rng.uniform(3, 5, 3), *rng.uniform(80, 100, 3)),
            ["Mg"] * m + ["O"] * o,
            rng.random((m + o, 3)),
        )
        for m in (1, 2, 3)
        for o in (1, 2, 3, 4)
        for _ in range(3)
    ]
    images = encode(cells, MG_O)
    return train(images, decode(images, MG_O).counts, MG_O, PARAMETERS, max_steps=150, seed=0)


@pytest.mark.parametrize("counts", [(2, 2), (3, 4)])
def test_samples_are_of_the_composition_valid_and_unique(
    trained: TrainedGenerator, counts: tuple[int, int]
) -> None:
    result = sample_composition(trained, counts, 4, seed=1)
    assert len(result.structures) == 4
    assert not result.gave_up
    assert all(MG_O.counts(structure) == counts for structure in result.structures)
    assert all(check_geometry(s, min_distance=1.5) is None for s in result.structures)
    assert unique_indices(result.structures) == [0, 1, 2, 3]
    assert result.tried == 4 + result.reasons.total()
    assert result.indices == sorted(set(result.indices))
    assert result.indices[-1] == result.tried - 1
    assert len(result.raw_structures) == len(result.max_displacement) == 4


def test_a_seed_gives_the_same_structures_again(trained: TrainedGenerator) -> None:
    first, second, other = (sample_composition(trained, (2, 2), 2, seed=seed) for seed in (1, 1, 2))
    assert first.indices == second.indices
    assert first.reasons == second.reasons
    for a, b in zip(first.structures, second.structures, strict=True):
        np.testing.assert_array_equal(a.frac_coords, b.frac_coords)
    assert not np.allclose(
        first.raw_structures[0].lattice.matrix, other.raw_structures[0].lattice.matrix
    )


def test_known_structures_are_duplicates(trained: TrainedGenerator) -> None:
    first = sample_composition(trained, (2, 2), 2, seed=1)
    again = sample_composition(trained, (2, 2), 2, seed=1, known=first.structures)
    assert again.reasons[RejectionReason.DUPLICATE] >= 2
    assert not set(first.indices) & set(again.indices)


def test_an_untrained_generator_gives_up_and_says_why() -> None:
    torch.manual_seed(0)
    untrained = TrainedGenerator.build(MG_O, PARAMETERS, seed=0)
    result = sample_composition(untrained, (1, 4), 2, seed=0, max_tries_per_structure=30)
    assert result.gave_up
    assert result.tried == 60
    assert result.reasons.total() + len(result.structures) == 60
    refused = {RejectionReason.WRONG_COMPOSITION, RejectionReason.WRONG_ATOM_ROWS}
    assert refused & set(result.reasons)


def test_an_impossible_composition_is_refused(trained: TrainedGenerator) -> None:
    states = {"Mg": (2.0, 2.0), "O": (-2.0, -2.0)}
    assert sample_composition(trained, (2, 2), 1, seed=0, oxidation_states=states).structures
    with pytest.raises(UserError, match="Mg2O3: no oxidation states"):
        sample_composition(trained, (2, 3), 1, seed=0, oxidation_states=states)
    for counts in ((0, 2), (4, 4), (1, 2, 3)):
        with pytest.raises(UserError, match="needs 1 to the cap of each of Mg 3, O 4"):
            sample_composition(trained, counts, 1, seed=0)
