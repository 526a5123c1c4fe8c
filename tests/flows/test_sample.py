from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from jobflow import Flow

from flows.sample import SampleMaker
from flows.train import TrainMaker
from gan_htvs.campaign.model import DatasetSettings, GeneratorSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ProposerName
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.single_points import single_point_energies
from tests.helpers import output_of

V_O = ChemicalSystem(caps={"V": 4, "O": 8})
RANGES = {"V": (2.0, 5.0), "O": (-2.0, -2.0)}


def maker(proposer: str, **settings) -> SampleMaker:
    return SampleMaker(
        proposer=ProposerName(proposer), system=V_O, oxidation_states=RANGES, **settings
    )


def sampled(sample_maker: SampleMaker, n: int = 3, composition: str = "V2O4"):
    return output_of(sample_maker.make(composition, n))


@pytest.mark.parametrize("proposer", ["random", "symmetric", "substitution"])
def test_samples_have_the_composition_and_provenance(proposer):
    sample = sampled(maker(proposer))
    for proposal in sample.proposals:
        assert proposal.origin.proposer == proposer
        assert proposal.origin.checkpoint is None
        assert proposal.origin.stream == sample.stream
        assert proposal.structure.composition.formula == "V2 O4"
    assert sample.tried >= len(sample.proposals) == sample.requested == 3
    assert sample.tried == len(sample.proposals) + sum(sample.rejections.values())


def test_sample_is_divided_into_batches():
    sample = sampled(maker("random", batch_size=2), n=5)
    assert [len(batch) for batch in sample.batches] == [2, 2, 1]
    assert maker("random", batch_size=2).n_batches(5) == 3


def test_longer_sample_begins_with_the_same_structures():
    few, more = (sampled(maker("random", batch_size=2), n=n) for n in (2, 4))
    ids = [[proposal.candidate_id for proposal in sample.proposals] for sample in (few, more)]
    assert ids[1][:2] == ids[0]
    assert few.proposals == more.proposals[:2]
    assert few.stream == more.stream


def test_ids_depend_on_campaign_seed_and_round():
    ids = [
        {proposal.candidate_id for proposal in sampled(maker("random", **settings)).proposals}
        for settings in ({}, {"campaign": "other"}, {"seed": 1}, {"round_number": 2})
    ]
    assert not ids[0] & (ids[1] | ids[2] | ids[3])


def test_shipped_generator_needs_no_training():
    sample = sampled(SampleMaker(), n=2, composition="MgMn2O4")
    training = TrainMaker(generator=GeneratorSettings(checkpoint="shipped")).make()
    sample_job = SampleMaker().make("MgMn2O4", 2, training.output)
    assert output_of(Flow([training, sample_job], output=sample_job.output)) == sample
    assert sample.proposals[0].origin.checkpoint.startswith("fd00c826")


def test_structure_of_lowest_single_point_energy_is_kept():
    sample = sampled(maker("random", best_of=3), n=1)
    group = sampled(maker("random"), n=3).proposals
    energies = single_point_energies(
        [proposal.structure for proposal in group], PotentialSettings(name="chgnet")
    )
    (kept,) = sample.proposals
    assert kept.structure == group[int(energies.argmin())].structure
    assert sample.rejections["higher_energy"] == 2
    assert sample.stream != sampled(maker("random"), n=1).stream


def test_crystals_of_the_training_set_are_skipped():
    training = TrainMaker(
        dataset=DatasetSettings(source="shipped", held_out=0.1),
        generator=GeneratorSettings(checkpoint="shipped"),
    )
    known = next(
        structure
        for structure in training.training_set().structures()
        if structure.composition.formula == "Mg1 Mn2 O4"
    )
    sample_maker = SampleMaker(skip_known=True)
    checkpoint = output_of(training.make())
    assert known in sample_maker.known(checkpoint, "Mg2Mn4O8")
    assert sample_maker.known(checkpoint, "MgMnO3") != []
    assert SampleMaker().known(checkpoint, "MgMn2O4") == []


def test_exhausted_proposer_is_marked():
    sample = sampled(maker("substitution"), n=500)
    assert sample.exhausted
    assert len(sample.proposals) < sample.requested == 500
    assert [len(batch) for batch in sample.batches[-2:]] == [0, 0]


def test_baseline_without_chemical_system_is_refused():
    with pytest.raises(UserError, match="needs a system"):
        SampleMaker(proposer=ProposerName.RANDOM).make("V2O4", 1)


def test_ids_do_not_depend_on_duration_of_training():
    parameters = replace(PRESETS["paper"], width=0.05, noise_dim=8)
    fast = replace(TrainedGenerator.build(V_O, parameters, seed=0), steps=1, seconds=1.0)
    samples = []
    for trained in (fast, replace(fast, seconds=2.0)):
        data = trained.to_bytes()
        checkpoint = {
            "weights": base64.b64encode(data).decode(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        sample_maker = SampleMaker(system=V_O, max_tries_per_structure=5)
        samples.append(output_of(sample_maker.make("V2O4", 1, checkpoint)))
    assert samples[0].stream == samples[1].stream
