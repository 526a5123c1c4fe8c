from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement, islice

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.training import train
from gan_htvs.proposers.gan import BATCH_SIZE, GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.structures.matching import unique_indices
from gan_htvs.structures.point_cloud import decode, encode
from gan_htvs.structures.validity import RejectionReason, check_geometry

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
def gan() -> GanProposer:
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
    counts = decode(images, MG_O).counts
    return GanProposer(train(images, counts, MG_O, PARAMETERS, max_steps=150, seed=0))


@pytest.mark.parametrize("counts", [(2, 2), (3, 4)])
def test_samples_have_the_composition_and_are_valid_and_unique(
    gan: GanProposer, counts: tuple[int, int]
) -> None:
    result = sample(gan, counts, 4, seed=1)
    assert len(result.structures) == 4
    assert all(MG_O.counts(structure) == counts for structure in result.structures)
    distances = dict.fromkeys(combinations_with_replacement(MG_O.elements, 2), 1.5)
    assert all(check_geometry(s, pair_distances=distances) is None for s in result.structures)
    assert unique_indices(result.structures) == [0, 1, 2, 3]
    indices = [sampled.index for sampled in result.samples]
    assert indices == sorted(set(indices))
    assert indices[-1] == result.tried - 1


def test_raw_sample_is_kept_if_the_classifier_predicts_the_composition(gan: GanProposer) -> None:
    counts = (2, 3)
    raw = list(islice(gan.raw_samples(counts, np.random.default_rng(5)), BATCH_SIZE))
    kept = [isinstance(sampled, Structure) for sampled in raw]
    noise = np.random.default_rng(5).standard_normal((BATCH_SIZE, 8), dtype=np.float32)
    with torch.no_grad():
        requested = torch.tensor([counts] * BATCH_SIZE)
        readings = gan.trained.classifier(gan.trained.generator(torch.from_numpy(noise), requested))
    agree = torch.ones(BATCH_SIZE, dtype=torch.bool)
    for count, reading in zip(counts, readings, strict=True):
        agree &= reading.counts.argmax(dim=1) + 1 == count
        agree &= reading.atoms.argmax(dim=2).sum(dim=1) == count
    possible = [not isinstance(s, RejectionReason) or "cell" not in s for s in raw]
    assert 0 < sum(kept) < BATCH_SIZE
    assert kept == [is_match and p for is_match, p in zip(agree.tolist(), possible, strict=True)]


def test_untrained_generator_stops_at_the_bound_with_reasons() -> None:
    torch.manual_seed(0)
    untrained = GanProposer(TrainedGenerator.build(MG_O, PARAMETERS, seed=0))
    result = sample(untrained, (1, 4), 2, seed=0, max_tries_per_structure=30)
    assert len(result.samples) < 2
    assert not result.exhausted
    assert result.tried == 60
    assert result.reasons.total() + len(result.structures) == 60
    mismatches = {RejectionReason.WRONG_COMPOSITION, RejectionReason.WRONG_ATOM_ROWS}
    assert mismatches & set(result.reasons)
    assert result.acceptance == pytest.approx(len(result.structures) / 60)


def test_impossible_composition_is_a_user_error(gan: GanProposer) -> None:
    states = {"Mg": (2.0, 2.0), "O": (-2.0, -2.0)}
    assert sample(gan, (2, 2), 1, seed=0, oxidation_states=states).structures
    with pytest.raises(UserError, match="composition Mg2O3"):
        sample(gan, (2, 3), 1, seed=0, oxidation_states=states)
    for counts in ((0, 2), (4, 4), (1, 2, 3)):
        with pytest.raises(UserError, match=r"composition .*Mg 3, O 4"):
            sample(gan, counts, 1, seed=0)
