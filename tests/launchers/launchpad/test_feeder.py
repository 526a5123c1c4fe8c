"""Queueing of the units of campaigns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import bson
import pytest
from monty.json import jsanitize
from pymongo.collection import Collection

from gan_htvs.core.candidate import Screened
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Step
from gan_htvs.results.builders.job_outputs import stored_campaigns
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import Feeder, feed_all
from launchers.launchpad.registry import register
from launchers.launchpad.units import CHUNK
from tests.helpers import cesium_chloride, mg_o, relaxed, rocksalt, survivor

SAMPLING = {"structures_per_composition": 120, "batch_size": 50, "proposers": ["gan", "random"]}
COMPOSITIONS = [{"formula": "MgO", "atoms_per_cell": 2 * n} for n in range(1, 5)]
N_COMPOSITIONS = len(COMPOSITIONS)


def campaign_of(**changes):
    """Return a campaign with a generator and without prescreen."""
    settings = {"compositions": COMPOSITIONS, "sampling": SAMPLING, "prescreen": None}
    return mg_o(**(settings | changes))


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        yield databases


def feeder_of(databases, campaign=None, **options):
    campaign = campaign or campaign_of()
    register(campaign, databases, **options)
    return Feeder(campaign, databases)


def store(databases, outputs):
    """Store outputs of jobs, by uuid."""
    documents = [
        {"uuid": uuid, "index": 1, "output": jsanitize(output, strict=True, enum_values=True)}
        for uuid, output in outputs.items()
    ]
    with databases.job_store() as job_store:
        job_store.update(documents)


def store_shared(feeder, phases=(), except_for=()):
    """Store the outputs of references, with these relaxed phases, and of training."""
    (relaxing, *_) = feeder.units.flows.shared["references"].jobs
    outputs = {key: {} for key in feeder.units.shared if key not in except_for}
    crystals = (rocksalt(), cesium_chloride())  # equal ones would be merged
    results = {name: relaxed(crystal) for name, crystal in zip(phases, crystals, strict=False)}
    store(feeder.databases, outputs | {relaxing.output.uuid: results})


def store_selection(feeder, number, ids):
    """Store the selection of a composition with survivors of these ids."""
    structure, result = rocksalt(), relaxed()
    survivors = [survivor(name, structure, result) for name in ids]
    store(
        feeder.databases, {list(feeder.units.compositions)[number]: Screened(proposals=survivors)}
    )


def end_workflows(feeder, n):
    """Set the releases of some workflows to completed."""
    waiting = {"spec.step": "release", "spec.campaign": "mg-o", "state": "WAITING"}
    jobs = feeder.launchpad.fireworks.find(waiting, {"fw_id": 1}).sort("fw_id").limit(n)
    ids = [job["fw_id"] for job in jobs]
    feeder.launchpad.fireworks.update_many(
        {"fw_id": {"$in": ids}}, {"$set": {"state": "COMPLETED"}}
    )


def names(feeder):
    return sorted(workflow["name"] for workflow in feeder.launchpad.workflows.find({}, {"name": 1}))


def candidates(feeder):
    """Return the ids of the candidates of each workflow."""
    gates = feeder.launchpad.fireworks.find({"spec.step": "gate"}, {"fw_id": 1, "spec": 1})
    ids = {gate["fw_id"]: gate["spec"]["candidate_id"] for gate in gates}
    workflows = feeder.launchpad.workflows.find({}, {"nodes": 1})
    chunks = [sorted(ids[n] for n in doc["nodes"] if n in ids) for doc in workflows]
    return [chunk for chunk in chunks if chunk]


def test_references_and_training_are_queued_first(databases):
    feeder = feeder_of(databases)
    assert feeder.feed() == 2
    assert names(feeder) == ["references", "train generator"]
    assert feeder.backlog() == (2, 0, 0, N_COMPOSITIONS)
    assert feeder.feed() == 0


def test_compositions_wait_for_references_and_training(databases):
    feeder = feeder_of(databases)
    feeder.feed()
    _, training = feeder.units.shared
    store(databases, {training: {}})
    assert feeder.feed() == 0
    store_shared(feeder)
    assert feeder.feed() == N_COMPOSITIONS
    assert feeder.backlog() == (N_COMPOSITIONS, 0, 0, 0)


def test_number_of_unfinished_workflows_is_limited(databases):
    feeder = feeder_of(databases, workflows_at_once=2)
    store_shared(feeder)
    assert feeder.backlog() == (0, 2, 2, 0)
    assert feeder.feed() == 2
    assert feeder.backlog() == (2, 0, 2, 0)
    assert feeder.feed() == 0
    end_workflows(feeder, 1)
    assert feeder.feed() == 1
    assert feeder_of(databases).feed() == 0  # the limit is stored
    assert feeder_of(databases, workflows_at_once=100).feed() == 1
    assert feeder.backlog() == (N_COMPOSITIONS, 0, 0, 0)


def test_survivors_of_selections_are_queued_in_chunks(databases):
    feeder = feeder_of(databases)
    store_shared(feeder)
    feeder.feed()
    ids = [f"{n:04d}" for n in range(2 * CHUNK + 7)]
    store_selection(feeder, 0, ids)
    assert feeder.backlog() == (N_COMPOSITIONS - 1, 3, 0, 0)
    assert feeder.feed() == 3
    assert [len(chunk) for chunk in candidates(feeder)] == [CHUNK, CHUNK, 7]
    assert sorted(chain.from_iterable(candidates(feeder))) == ids
    assert feeder.backlog() == (N_COMPOSITIONS - 1 + len(ids), 0, 0, 0)
    assert feeder.feed() == 0


def test_candidates_wait_for_the_references(databases):
    feeder = feeder_of(databases)
    feeder.feed()
    store_selection(feeder, 0, ["a"])
    assert feeder.feed() == 0
    store_shared(feeder)
    assert feeder.feed() == N_COMPOSITIONS - 1 + 1


def test_reference_phases_are_evaluated_like_candidates(databases):
    feeder = feeder_of(databases)
    store_shared(feeder, phases=["MgO periclase", "Mg hcp"])
    assert feeder.feed() == 1 + N_COMPOSITIONS
    (chunk,) = candidates(feeder)
    assert len(chunk) == 2
    gates = feeder.launchpad.fireworks.find({"spec.step": "gate"})
    origins = [gate["spec"]["_tasks"][0]["job"]["function_args"][0]["origin"] for gate in gates]
    assert {origin["label"] for origin in origins} == {"MgO periclase", "Mg hcp"}
    assert {origin["proposer"] for origin in origins} == {"reference_phase"}


def test_candidates_are_queued_before_more_compositions(databases):
    feeder = feeder_of(databases, workflows_at_once=2)
    store_shared(feeder)
    feeder.feed()
    store_selection(feeder, 0, ["a"])
    end_workflows(feeder, 1)
    assert feeder.backlog() == (1, 1, 2, 0)
    assert feeder.feed() == 1
    assert candidates(feeder) == [["a"]]


@pytest.mark.parametrize("names_of_survivors", [(), tuple(f"{n:03d}" for n in range(CHUNK + 1))])
def test_concurrent_feeders_queue_nothing_twice(databases, names_of_survivors):
    feeder = feeder_of(databases, workflows_at_once=3)
    store_shared(feeder)
    if names_of_survivors:
        store_selection(feeder, 0, names_of_survivors)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: Feeder(feeder.campaign, databases).feed(), range(4)))
    assert sum(added) == 3
    assert len(names(feeder)) == 3
    assert sorted(chain.from_iterable(candidates(feeder))) == list(names_of_survivors)


def test_archived_workflows_are_queued_again(databases):
    feeder = feeder_of(databases)
    store_shared(feeder)
    feeder.feed()
    ids = ["0001", "0002"]
    store_selection(feeder, 0, ids)
    assert feeder.feed() == 1
    launchpad = feeder.launchpad
    gate = launchpad.fireworks.find_one({"spec.step": "gate"})
    unfinished = list(feeder.units.compositions)[1]
    workflow = launchpad.workflows.find_one({"metadata.unit": unfinished})
    for fw_id in (gate["fw_id"], workflow["nodes"][0]):
        launchpad.archive_wf(fw_id)
    assert feeder.backlog().ready == 2
    assert feeder.feed() == 2
    assert feeder.feed() == 0
    live = {"state": {"$ne": "ARCHIVED"}, "spec.step": "gate"}
    candidate_ids = launchpad.fireworks.distinct("spec.candidate_id", live)
    assert sorted(candidate_ids) == ids


def test_incomplete_workflows_of_killed_feeder_are_added_again(databases, monkeypatch):
    feeder = feeder_of(databases)
    store_shared(feeder)
    insert = Collection.insert_many

    def insert_some_and_die(collection, documents):
        if collection.name != "fireworks":
            return insert(collection, documents)
        insert(collection, list(documents)[:6])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert_many", insert_some_and_die)
        with pytest.raises(KeyboardInterrupt):
            feeder.feed()
    assert 0 < feeder.feed() < N_COMPOSITIONS  # complete workflows are kept
    workflows = list(feeder.launchpad.workflows.find())
    units = {workflow["metadata"]["unit"] for workflow in workflows}
    assert len(units) == len(workflows) == N_COMPOSITIONS
    ids = [job["fw_id"] for job in feeder.launchpad.fireworks.find({}, {"fw_id": 1})]
    assert sorted(ids) == sorted(node for workflow in workflows for node in workflow["nodes"])


def test_references_release_all_campaigns_that_share_them(databases):
    first = feeder_of(databases)
    second = feeder_of(databases, campaign_of(name="second"))
    first.feed()
    assert second.feed() == 0  # references and training are already queued
    store_shared(first)
    assert feed_all(databases, first.units.references) == 2 * N_COMPOSITIONS
    assert feed_all(databases) == 0


def test_other_campaigns_are_fed_after_an_error(databases, monkeypatch):
    _, second = (feeder_of(databases, campaign_of(name=name)) for name in ("first", "second"))
    feed = Feeder.feed

    def feed_some(feeder):
        if feeder.campaign.name == "first":
            raise UserError("its reference phases are gone.")
        return feed(feeder)

    monkeypatch.setattr(Feeder, "feed", feed_some)
    with pytest.raises(UserError, match=r"campaign first: its reference phases are gone\."):
        feed_all(databases)
    assert second.backlog().queued == 2


@pytest.mark.parametrize(
    "changes", [{"unheard_of": 1}, {"generator": {"overrides": {"unheard_of": 1}}}]
)
def test_campaign_of_another_version_is_not_fed(databases, changes):
    feeder_of(databases)
    settings = campaign_of(name="newer").model_dump(mode="json") | changes
    submission = {"owners": ["newer"]}
    with databases.store("campaigns", key="name") as campaigns:
        campaigns.update([{"name": "newer", "settings": settings, "submission": submission}])
        assert [campaign.name for campaign in stored_campaigns(campaigns)] == ["mg-o"]
    assert feed_all(databases) == 2


def test_references_of_the_potentials_of_a_prescreen_are_shared(databases):
    prescreen = {"potential": "sevennet-0"}  # confirmed by CHGNet
    first = feeder_of(databases, campaign_of(prescreen=prescreen))
    second = feeder_of(databases, campaign_of(name="second", prescreen=prescreen))
    assert first.feed() == 3  # candidates and confirmation share the references of CHGNet
    assert names(first) == ["references", "references sevennet-0", "train generator"]
    assert second.feed() == 0
    assert second.backlog().queued == 3
    _, screening, _ = first.units.shared
    store_shared(first, except_for=[screening])
    assert first.feed() == 0  # compositions need a hull
    store_shared(first)
    # The release of that unit queues the compositions of both campaigns.
    assert feed_all(databases, screening) == 2 * N_COMPOSITIONS


def test_jobs_have_a_category_and_no_credentials(databases):
    feeder = feeder_of(databases)
    feeder.feed()
    store_shared(feeder, phases=["MgO periclase"])
    store_selection(feeder, 0, ["a"])
    feeder.feed()
    jobs = list(feeder.launchpad.fireworks.find())
    assert {(job["spec"]["step"], job["spec"]["_category"]) for job in jobs} == {
        (Step.REFERENCES, "cpu"),
        (Step.TRAIN, "gpu"),
        (Step.PROPOSE, "cpu"),  # random cells
        (Step.PROPOSE, "gpu"),
        (Step.SELECT, "cpu"),
        (Step.GATE, "cpu"),
        (Step.RELEASE, "cpu"),
    }
    for job in jobs:
        assert all(task.get("store") is None for task in job["spec"]["_tasks"])
        assert len(bson.encode(job)) < 500_000


def test_routing_can_avoid_the_gpu_category(databases):
    routing = {"train": "cpu", "generate": "cpu"}
    feeder = feeder_of(databases, campaign_of(routing=routing))
    feeder.feed()
    store_shared(feeder)
    feeder.feed()
    assert set(feeder.launchpad.fireworks.distinct("spec._category")) == {"cpu"}


def test_shared_jobs_have_the_highest_priority_and_sampling_the_lowest(databases):
    feeder = feeder_of(databases, campaign_of(prescreen={"confirm": "none"}))
    feeder.feed()
    store_shared(feeder)
    store_selection(feeder, 0, ["a"])
    feeder.feed()
    priorities = {}
    for job in feeder.launchpad.fireworks.find({}, {"spec._priority": 1, "spec.step": 1}):
        priorities.setdefault(job["spec"]["step"], set()).add(job["spec"]["_priority"])
    assert all(len(values) == 1 for values in priorities.values())
    ascending = sorted(priorities, key=lambda step: max(priorities[step]))
    assert ascending == ["propose", "prescreen", "select", "gate", "references", "train", "release"]


def test_extended_campaign_evaluates_only_new_candidates(databases):
    feeder = feeder_of(databases, workflows_at_once=100)
    store_shared(feeder, phases=["MgO periclase"])
    feeder.feed()
    store_selection(feeder, 0, ["a", "b"])
    assert feeder.feed() == 1
    sampling = SAMPLING | {"structures_per_composition": 150}
    more = feeder_of(databases, campaign_of(sampling=sampling, routing={"train": "cpu"}))
    assert more.feed() == N_COMPOSITIONS  # each with a longer sample
    store_selection(more, 0, ["a", "b", "c"])
    assert more.feed() == 1
    assert candidates(more)[-1] == ["c"]


def test_only_new_compositions_are_added(databases):
    feeder = feeder_of(databases, campaign_of(compositions=COMPOSITIONS[:1]))
    store_shared(feeder)
    assert feeder.feed() == 1
    assert feeder_of(databases).feed() == N_COMPOSITIONS - 1


def test_changed_settings_are_a_user_error_without_extend(databases):
    feeder_of(databases)
    changed = campaign_of(stages=[{"name": "stable", "property": "energy_above_hull", "max": 0}])
    with pytest.raises(UserError, match=r"stages.*--extend"):
        register(changed, databases, extend=False)
    register(changed, databases, extend=True)
    larger = {"band_gap": {"name": "none", "max_scf_iterations": 900, "accept_incomplete": True}}
    register(campaign_of(engines=larger), databases, extend=True)
    other = campaign_of(pourbaix={"ph_max": 10})
    with pytest.raises(UserError, match=r"pourbaix.ph_max.*restore"):
        register(other, databases, extend=True)


ROUNDS = {
    "generator": {"rounds": 3},
    "prescreen": {"confirm": "none"},
    "compositions": COMPOSITIONS[:2],
}


def feed_rounds(feeder):
    """Return the numbers of trainings and compositions of each round that are queued."""
    feeder.feed()
    rounds = feeder.units.rounds
    queued = feeder.launchpad.queued([*feeder.units.trainings, *feeder.units.compositions])
    return [
        (int(one.training in queued), len(queued.intersection(one.compositions))) for one in rounds
    ]


def test_rounds_are_queued_one_after_the_other(databases):
    feeder = feeder_of(databases, campaign_of(**ROUNDS))
    assert feed_rounds(feeder) == [(0, 0)] * 3
    store_shared(feeder)
    assert feed_rounds(feeder) == [(0, 2), (0, 0), (0, 0)]
    assert feeder.backlog().waiting == 2 * (1 + 2)
    store_selection(feeder, 0, ["a"])
    assert feed_rounds(feeder)[1] == (0, 0)
    assert candidates(feeder) == [["a"]], "before the other composition is screened"
    store_selection(feeder, 1, [])
    assert feed_rounds(feeder) == [(0, 2), (1, 0), (0, 0)]
    _, second, _ = feeder.units.rounds
    store(databases, {second.training: {"stopped": None}})
    assert feed_rounds(feeder) == [(0, 2), (1, 2), (0, 0)]
    store_selection(feeder, 2, ["a", "b"])
    store_selection(feeder, 3, [])
    assert feed_rounds(feeder) == [(0, 2), (1, 2), (1, 0)]
    assert candidates(feeder) == [["a"], ["b"]]
    assert feeder.feed() == 0


def test_round_with_nothing_new_ends_the_rounds(databases):
    feeder = feeder_of(databases, campaign_of(**ROUNDS))
    store_shared(feeder)
    for number in range(2):
        store_selection(feeder, number, [])
    assert feed_rounds(feeder) == [(0, 0), (1, 0), (0, 0)]
    store(databases, {feeder.units.rounds[1].training: {"stopped": "nothing new"}})
    assert feed_rounds(feeder) == [(0, 0), (1, 0), (0, 0)]
    assert feeder.backlog().missing == 0


def test_samples_of_a_campaign_with_rounds_must_not_change(databases):
    register(campaign_of(**ROUNDS), databases)
    for change in ({"compositions": COMPOSITIONS}, {"sampling": SAMPLING | {"proposers": ["gan"]}}):
        with pytest.raises(UserError, match=next(iter(change))):
            register(campaign_of(**(ROUNDS | change)), databases)
    register(campaign_of(**(ROUNDS | {"routing": {"train": "cpu"}})), databases)
