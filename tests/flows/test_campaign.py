from __future__ import annotations

from importlib import resources

import yaml

from flows.campaign import CampaignUnits
from flows.sample import shards
from gan_htvs.campaign import Campaign
from gan_htvs.campaign_file import checked_campaign

DEMO = yaml.safe_load((resources.files("launchers.templates") / "demo.yaml").read_text())

MIXED = {"proposers": ["gan", "random", "substitution"], "structures_per_composition": 5}


def demo(**changes) -> Campaign:
    return checked_campaign(DEMO | changes, "demo")


def keys(campaign: Campaign) -> set[str]:
    return {unit.key for unit in CampaignUnits(campaign).units()}


def test_the_same_campaign_makes_the_same_units():
    assert keys(demo()) == keys(demo())
    # References, those of the potential that confirms, training, known phases, three shards.
    assert len(keys(demo())) == 7
    assert len(keys(demo(prescreen=None))) == 6


def test_another_campaign_shares_references_and_training_but_no_shard():
    units = CampaignUnits(demo())
    assert keys(demo()) & keys(demo(name="second")) == set(units.shared)
    assert {units.references, units.training} < set(units.shared)


def test_another_engine_needs_other_references():
    strict = demo(engines={"energy": {"fmax": 0.01}})
    assert CampaignUnits(strict).references != CampaignUnits(demo()).references


def test_units_wait_for_what_they_need():
    units = CampaignUnits(demo())
    needs = units.needs
    assert [unit.key for unit in units.units()] == list(needs)
    assert needs[units.references] == needs[units.training] == frozenset()
    others = [need for key, need in needs.items() if key not in units.owners]
    assert others.count(frozenset(units.shared)) == 3
    assert others.count(frozenset({units.references})) == 1


def test_what_is_done_is_left_out():
    units = CampaignUnits(demo())
    references = next(units.units()).flow
    done = {job.uuid for job in references.jobs[:4]} | {units.training}
    left = list(units.units(done))
    assert len(left[0].flow.jobs) == len(references.jobs) - 4
    assert units.training not in {unit.key for unit in left}


def test_shards_cut_a_composition_and_more_structures_keep_the_old_ones():
    sampling = {"structures_per_composition": 120, "shard_size": 50}
    campaign = demo(sampling=sampling)
    cut = shards(campaign)
    assert [s.n_structures for s in cut[:3]] == [50, 50, 20]
    assert len({s.stream(campaign) for s in cut}) == 9
    more = demo(sampling=sampling | {"structures_per_composition": 140})
    assert [s.stream(campaign) for s in cut] == [s.stream(more) for s in shards(more)]


def test_another_proposer_adds_its_shards_and_repeats_nothing():
    before, after = demo(), demo(sampling=MIXED)
    sampled = [
        {unit.key for unit in CampaignUnits(campaign).units() if "sample" in unit.flow.name}
        for campaign in (before, after)
    ]
    assert sampled[0] < sampled[1]
    assert len(sampled[1]) == 9
    streams = [shard.stream(after) for shard in shards(after)]
    assert len(set(streams)) == len(streams)
    assert {shard.stream(before) for shard in shards(before)} < set(streams)


def test_only_what_samples_a_generator_waits_for_the_training():
    campaign = demo(sampling=MIXED)
    units = CampaignUnits(campaign)
    waits = [units.training in need for key, need in units.needs.items() if units.is_shard(key)]
    assert waits == [shard.proposer == "gan" for shard in shards(campaign)]


def test_without_a_generator_nothing_is_trained():
    units = CampaignUnits(demo(sampling=MIXED | {"proposers": ["random", "substitution"]}))
    assert units.training is None
    assert units.owners == ["mg-mn-o-demo", *units.shared]
    for unit in units.units():
        assert units.needs[unit.key] <= set(units.shared)
        assert {job.metadata["campaign"] for job in unit.flow.jobs} <= set(units.owners)
        assert all(job.metadata["step"] != "train" for job in unit.flow.jobs)


def test_a_proposer_with_one_fixed_list_has_one_shard_of_each_composition():
    sampling = {
        "proposers": ["random", "substitution"],
        "structures_per_composition": 120,
        "shard_size": 50,
    }
    cut = shards(demo(sampling=sampling))
    assert [s.n_structures for s in cut if s.proposer == "substitution"] == [120] * 3
    assert [s.n_structures for s in cut if s.proposer == "random"] == [50, 50, 20] * 3


def test_every_job_is_labelled_with_its_owner():
    units = CampaignUnits(demo())
    for unit in units.units():
        for job in unit.flow.jobs:
            assert job.metadata["campaign"] in units.owners
            assert job.metadata["step"]
