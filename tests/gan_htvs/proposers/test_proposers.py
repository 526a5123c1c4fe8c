"""Properties of all proposers in two chemical systems."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import ProposerName
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.proposers.proposer import Proposer, make_proposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.structures.validity import RejectionReason
from tests.helpers import MG_MN_O, OXIDATION_STATES

V_O = ChemicalSystem(caps={"V": 8, "O": 12})
SYSTEMS = {
    "Mg-Mn-O": (MG_MN_O, OXIDATION_STATES, (1, 2, 4)),
    "V-O": (V_O, {"V": (2, 5), "O": (-2, -2)}, (2, 4)),
}
BASELINES = [name for name in ProposerName if name is not ProposerName.GAN]


def make(name: ProposerName, system: str) -> tuple[Proposer, tuple[int, ...]]:
    elements, states, counts = SYSTEMS[system]
    torch.manual_seed(0)
    parameters = replace(PRESETS["paper"], width=0.1, noise_dim=8)
    untrained = TrainedGenerator.build(elements, parameters, seed=0)
    return make_proposer(name, elements, states, untrained), counts


def raw(proposer: Proposer, counts: tuple[int, ...], n: int, seed: int = 0) -> list:
    return list(islice(proposer.raw_samples(counts, np.random.default_rng(seed)), n))


def coordinates(samples: list) -> list:
    return [s.frac_coords.tolist() if isinstance(s, Structure) else s for s in samples]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ProposerName)
def test_raw_sample_has_the_requested_atoms_or_a_rejection_reason(name, system):
    proposer, counts = make(name, system)
    assert proposer.name is name
    samples = raw(proposer, counts, 5)
    assert len(samples) == 5
    for raw_sample in samples:
        if isinstance(raw_sample, Structure):
            assert proposer.system.counts(raw_sample) == counts
        else:
            assert isinstance(raw_sample, RejectionReason)


@pytest.mark.parametrize("name", ProposerName)
def test_raw_samples_depend_on_the_seed_but_not_on_their_number(name):
    proposer, counts = make(name, "V-O")
    four = coordinates(raw(proposer, counts, 4))
    assert coordinates(raw(make(name, "V-O")[0], counts, 6))[:4] == four
    if name in {ProposerName.RANDOM, ProposerName.SYMMETRIC}:
        assert coordinates(raw(proposer, counts, 4, seed=1)) != four


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", BASELINES)
def test_larger_sample_begins_with_the_smaller_one(name, system):
    proposer, counts = make(name, system)
    two, more = (sample(proposer, counts, n, seed=7) for n in (2, 7))
    assert len(more.samples) == 7
    assert [s.index for s in more.samples[:2]] == [s.index for s in two.samples]
    assert coordinates(more.structures[:2]) == coordinates(two.structures)


def test_gan_proposer_needs_a_trained_generator():
    with pytest.raises(ValueError, match="trained generator"):
        make_proposer(ProposerName.GAN, V_O, {})
