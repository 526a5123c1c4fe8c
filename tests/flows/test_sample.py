from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from jobflow import run_locally

from flows.sample import SampleMaker
from flows.train import TrainMaker
from gan_htvs.campaign.model import GeneratorSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ProposerName
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from tests.helpers import memory_store

V_O = ChemicalSystem(caps={"V": 4, "O": 8})
RANGES = {"V": (2.0, 5.0), "O": (-2.0, -2.0)}


def maker(proposer: str, **settings) -> SampleMaker:
    return SampleMaker(
        proposer=ProposerName(proposer), system=V_O, oxidation_states=RANGES, **settings
    )


def sampled(making: SampleMaker, n: int = 3, composition: str = "V2O4"):
    store, sampling = memory_store(), making.make(composition, n)
    run_locally(sampling, store=store, log=False, raise_immediately=True)
    return sampling.output.resolve(store)


@pytest.mark.parametrize("proposer", ["random", "symmetric", "substitution"])
def test_a_sample_has_structures_of_one_composition_with_their_provenance(proposer):
    sample = sampled(maker(proposer))
    assert [each.origin.proposer for each in sample.proposals] == [proposer] * 3
    assert all(each.origin.checkpoint is None for each in sample.proposals)
    assert all(each.origin.stream == sample.stream for each in sample.proposals)
    assert all(each.structure.composition.formula == "V2 O4" for each in sample.proposals)
    assert sample.tried >= len(sample.proposals) == sample.requested
    assert sample.tried == len(sample.proposals) + sum(sample.rejections.values())


def test_structures_come_in_batches():
    sample = sampled(maker("random", batch_size=2), n=5)
    assert [len(batch) for batch in sample.batches] == [2, 2, 1]
    assert maker("random", batch_size=2).n_batches(5) == 3


def test_a_longer_sample_begins_with_the_same_structures():
    few, more = (sampled(maker("random", batch_size=2), n=n) for n in (2, 4))
    ids = [[each.candidate_id for each in sample.proposals] for sample in (few, more)]
    assert ids[1][:2] == ids[0]
    assert few.proposals == more.proposals[:2]
    assert few.stream == more.stream


def test_ids_depend_on_campaign_and_seed():
    ids = [
        {each.candidate_id for each in sampled(maker("random", **settings)).proposals}
        for settings in ({}, {"campaign": "other"}, {"seed": 1})
    ]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]


def test_the_generator_of_the_package_needs_no_training():
    sample = sampled(SampleMaker(), n=2, composition="MgMn2O4")
    training = TrainMaker(generator=GeneratorSettings(checkpoint="shipped")).make()
    store = memory_store()
    sampling = SampleMaker().make("MgMn2O4", 2, training.output)
    run_locally([training, sampling], store=store, log=False)
    again = sampling.output.resolve(store)
    assert again == sample
    assert sample.proposals[0].origin.checkpoint.startswith("fd00c826")


def test_a_proposer_that_finds_no_more_says_so():
    sample = sampled(maker("substitution"), n=500)
    assert sample.exhausted
    assert len(sample.proposals) < sample.requested == 500
    assert [len(batch) for batch in sample.batches[-2:]] == [0, 0]


def test_a_baseline_without_a_chemical_system_is_refused():
    with pytest.raises(UserError, match="needs a system"):
        SampleMaker(proposer=ProposerName.RANDOM).make("V2O4", 1)


def test_ids_do_not_depend_on_how_long_the_training_took():
    parameters = replace(PRESETS["paper"], width=0.05, noise_dim=8)
    fast = replace(TrainedGenerator.build(V_O, parameters, seed=0), steps=1, seconds=1.0)
    samples = []
    for trained in (fast, replace(fast, seconds=2.0)):
        data = trained.to_bytes()
        checkpoint = {
            "weights": base64.b64encode(data).decode(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        sampling = SampleMaker(system=V_O, max_tries_per_structure=5).make("V2O4", 1, checkpoint)
        store = memory_store()
        run_locally(sampling, store=store, log=False, raise_immediately=True)
        samples.append(sampling.output.resolve(store))
    assert samples[0].stream == samples[1].stream
