"""What is queued, when, and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import bson
import pytest
from pymongo.collection import Collection

from gan_htvs.builders.documents import stored_campaigns
from gan_htvs.campaign_file import checked_campaign
from gan_htvs.candidate import Step
from gan_htvs.errors import UserError
from launchers.database import open_databases
from launchers.feeder import Feeder, feed_all
from launchers.registry import register

CAMPAIGN = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "compositions": ["Mg2O2", "Mg3O3"],
    "sampling": {
        "structures_per_composition": 120,
        "shard_size": 50,
        "proposers": ["gan", "random"],
    },
    "prescreen": None,
}
N_SHARDS = 12


def campaign_of(**changes):
    return checked_campaign(CAMPAIGN | changes, "campaign.yaml")


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialise()
        yield databases


def feeder_of(databases, campaign=None, **options):
    campaign = campaign or campaign_of()
    register(campaign, databases, **options)
    return Feeder(campaign, databases)


def store(databases, *uuids):
    """Leave outputs of these jobs."""
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update([{"uuid": uuid, "index": 1, "output": {}} for uuid in uuids])


def end_shards(feeder, n):
    """Let the releases of some shards have run."""
    of_shards = {"spec.step": "release", "spec.campaign": "mg-o", "state": "WAITING"}
    jobs = feeder.launchpad.fireworks.find(of_shards, {"fw_id": 1}).limit(n)
    ids = [job["fw_id"] for job in jobs]
    feeder.launchpad.fireworks.update_many(
        {"fw_id": {"$in": ids}}, {"$set": {"state": "COMPLETED"}}
    )


def names(feeder):
    return sorted(each["name"] for each in feeder.launchpad.workflows.find({}, {"name": 1}))


def test_what_needs_nothing_is_queued_and_the_rest_waits(databases):
    feeder = feeder_of(databases)
    assert feeder.feed() == 2
    assert names(feeder) == ["known phases", "train generator"]
    assert feeder.backlog() == (2, 0, 0, 1 + N_SHARDS)
    assert feeder.feed() == 0


def test_only_shards_of_the_generator_wait_for_the_checkpoint(databases):
    feeder = feeder_of(databases)
    feeder.feed()
    store(databases, feeder.units.references)
    feeder.feed()
    assert {name.partition("(")[2] for name in names(feeder) if "sample" in name} == {"random)"}
    store(databases, feeder.units.training)
    assert feeder.feed() == N_SHARDS // 2


def test_a_shard_that_ends_makes_room_for_another(databases):
    feeder = feeder_of(databases, shards_at_once=3)
    store(databases, *feeder.units.shared)
    assert feeder.backlog() == (0, 1 + 3, N_SHARDS - 3, 0)
    assert feeder.feed() == 1 + 3
    assert feeder.backlog() == (1 + 3, 0, N_SHARDS - 3, 0)
    assert feeder.feed() == 0
    end_shards(feeder, 2)
    assert feeder.feed() == 2
    assert feeder_of(databases).feed() == 0  # the bound is remembered
    assert feeder_of(databases, shards_at_once=100).feed() == N_SHARDS - 5
    assert feeder.backlog() == (1 + N_SHARDS, 0, 0, 0)


def test_many_feeders_queue_nothing_twice(databases):
    feeder = feeder_of(databases, shards_at_once=7)
    store(databases, *feeder.units.shared)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: Feeder(feeder.campaign, databases).feed(), range(4)))
    assert sum(added) == 1 + 7
    assert len(names(feeder)) == 1 + 7


def test_what_a_killed_feeder_added_by_halves_is_added_again(databases, monkeypatch):
    feeder = feeder_of(databases, shards_at_once=4)
    store(databases, *feeder.units.shared)
    insert = Collection.insert_many

    def insert_some_and_die(collection, documents):
        if collection.name != "fireworks":
            return insert(collection, documents)
        insert(collection, list(documents)[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert_many", insert_some_and_die)
        with pytest.raises(KeyboardInterrupt):
            feeder.feed()
    assert 0 < feeder.feed() < 1 + 4  # what was complete stays
    workflows = list(feeder.launchpad.workflows.find())
    assert len({each["metadata"]["unit"] for each in workflows}) == len(workflows) == 1 + 4
    ids = [job["fw_id"] for job in feeder.launchpad.fireworks.find({}, {"fw_id": 1})]
    assert sorted(ids) == sorted(node for each in workflows for node in each["nodes"])


def test_references_release_every_campaign_that_shares_them(databases):
    first = feeder_of(databases)
    second = feeder_of(databases, campaign_of(name="second"))
    first.feed()
    assert second.feed() == 0  # references and training are queued already
    store(databases, *first.units.shared)
    assert feed_all(databases, first.units.references) == 2 * (1 + N_SHARDS)
    assert feed_all(databases) == 0


def test_a_campaign_that_cannot_be_fed_keeps_no_other_from_its_food(databases, monkeypatch):
    _, second = (feeder_of(databases, campaign_of(name=name)) for name in ("first", "second"))
    feed = Feeder.feed

    def feed_some(feeder):
        if feeder.campaign.name == "first":
            raise UserError("its known phases are gone.")
        return feed(feeder)

    monkeypatch.setattr(Feeder, "feed", feed_some)
    with pytest.raises(UserError, match=r"campaign first: its known phases are gone\."):
        feed_all(databases)
    assert second.backlog().queued == 2


@pytest.mark.parametrize(
    "changes", [{"unheard_of": 1}, {"generator": {"overrides": {"unheard_of": 1}}}]
)
def test_a_campaign_of_another_version_is_not_fed(databases, changes):
    feeder_of(databases)
    settings = campaign_of(name="newer").model_dump(mode="json") | changes
    submission = {"owners": ["newer"]}
    with databases.store("campaigns", key="name") as campaigns:
        campaigns.update([{"name": "newer", "settings": settings, "submission": submission}])
        assert [campaign.name for campaign in stored_campaigns(campaigns)] == ["mg-o"]
    assert feed_all(databases) == 2


def test_known_phases_by_the_potentials_of_a_prescreen_are_shared(databases):
    prescreen = {"potential": "sevennet-0"}  # and CHGNet confirms
    first = feeder_of(databases, campaign_of(prescreen=prescreen))
    second = feeder_of(databases, campaign_of(name="second", prescreen=prescreen))
    assert first.feed() == 4
    by_potentials = ["known phases (chgnet)", "known phases (sevennet-0)"]
    assert names(first) == ["known phases", *by_potentials, "train generator"]
    assert second.feed() == 0
    assert second.backlog().queued == 4
    references, relaxing, *others = first.units.shared
    store(databases, references, *others)
    assert first.feed() == 1  # known phases are judged, and no shard starts without a hull
    store(databases, relaxing)
    # The release at the end of that unit lets the shards of both campaigns go.
    assert feed_all(databases, relaxing) == N_SHARDS + 1 + N_SHARDS


def test_every_job_has_its_workers_and_no_credentials(databases):
    feeder = feeder_of(databases)
    store(databases, feeder.units.training)
    feeder.feed()
    store(databases, feeder.units.references)
    feeder.feed()
    category = {
        (Step.RELAX, "cpu"),
        (Step.STATIC, "cpu"),
        (Step.REFERENCES, "cpu"),
        (Step.RELEASE, "cpu"),
        (Step.PROPOSE, "cpu"),  # random cells, known phases
        (Step.PROPOSE, "gpu"),
    }
    jobs = list(feeder.launchpad.fireworks.find())
    assert {(job["spec"]["step"], job["spec"]["_category"]) for job in jobs} == category
    for job in jobs:
        assert all(task.get("store") is None for task in job["spec"]["_tasks"])
        assert len(bson.encode(job)) < 500_000


def test_a_machine_without_gpu_sends_everything_elsewhere(databases):
    routing = {"train": "cpu", "generate": "cpu"}
    feeder = feeder_of(databases, campaign_of(routing=routing))
    store(databases, *feeder.units.shared)
    feeder.feed()
    assert set(feeder.launchpad.fireworks.distinct("spec._category")) == {"cpu"}


def test_what_everything_waits_for_is_taken_first_and_new_samples_last(databases):
    feeder = feeder_of(databases)
    feeder.feed()
    store(databases, *feeder.units.shared)
    feeder.feed()
    priorities = {}
    for job in feeder.launchpad.fireworks.find({}, {"spec._priority": 1, "spec.step": 1}):
        priorities.setdefault(job["spec"]["step"], set()).add(job["spec"]["_priority"])
    assert min(min(each) for step, each in priorities.items() if step != "propose") > max(
        priorities["propose"]
    )


def test_more_structures_add_shards_and_judge_no_known_phase_again(databases):
    feeder = feeder_of(databases, shards_at_once=100)
    store(databases, *feeder.units.shared)
    feeder.feed()
    sampling = CAMPAIGN["sampling"] | {"structures_per_composition": 150}
    more = feeder_of(databases, campaign_of(sampling=sampling, routing={"train": "cpu"}))
    assert more.feed() == 4  # the last shard of each, longer
    assert names(more).count("propose_known_phases") == 1


def test_a_changed_campaign_needs_a_word(databases):
    feeder_of(databases)
    changed = campaign_of(thresholds={"pourbaix": 0.4})
    with pytest.raises(UserError, match=r"thresholds.pourbaix.*--extend"):
        register(changed, databases, extend=False)
    register(changed, databases, extend=True)
    other = campaign_of(pourbaix={"ph_max": 10})
    with pytest.raises(UserError, match=r"pourbaix.ph_max.*restore"):
        register(other, databases, extend=True)
