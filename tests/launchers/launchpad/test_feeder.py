"""What is queued, when, and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import bson
import pytest
from monty.json import jsanitize
from pymongo.collection import Collection

from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Step
from gan_htvs.prescreen.documents import Selection, Survivor
from gan_htvs.results.builders.job_outputs import stored_campaigns
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import Feeder, feed_all
from launchers.launchpad.registry import register
from launchers.launchpad.units import CHUNK
from tests.helpers import mg_o, proposal, relaxed, rocksalt

SAMPLING = {"structures_per_composition": 120, "batch_size": 50, "proposers": ["gan", "random"]}
COMPOSITIONS = [f"Mg{n}O{n}" for n in range(1, 5)]
N_COMPOSITIONS = len(COMPOSITIONS)


def campaign_of(**changes):
    """Make a campaign with a generator and without prescreen."""
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
    """Leave these outputs of jobs, by uuid."""
    documents = [
        {"uuid": uuid, "index": 1, "output": jsanitize(output, strict=True, enum_values=True)}
        for uuid, output in outputs.items()
    ]
    with databases.job_store() as job_store:
        job_store.update(documents)


def store_shared(feeder, phases=(), but=()):
    """Let references and training be done, with these relaxed reference phases."""
    (relaxing, *_) = feeder.units.flows.shared["references"].jobs
    outputs = {key: {} for key in feeder.units.shared if key not in but}
    store(feeder.databases, outputs | {relaxing.output.uuid: {name: relaxed() for name in phases}})


def store_selection(feeder, number, ids):
    """Let a composition be done, with survivors of these ids."""
    structure, result = rocksalt(), relaxed()
    survivors = [Survivor(proposal=proposal(name, structure), relaxed=result) for name in ids]
    store(
        feeder.databases, {list(feeder.units.compositions)[number]: Selection(survivors=survivors)}
    )


def end_workflows(feeder, n):
    """Let the releases of some workflows have run."""
    waiting = {"spec.step": "release", "spec.campaign": "mg-o", "state": "WAITING"}
    jobs = feeder.launchpad.fireworks.find(waiting, {"fw_id": 1}).sort("fw_id").limit(n)
    ids = [job["fw_id"] for job in jobs]
    feeder.launchpad.fireworks.update_many(
        {"fw_id": {"$in": ids}}, {"$set": {"state": "COMPLETED"}}
    )


def names(feeder):
    return sorted(each["name"] for each in feeder.launchpad.workflows.find({}, {"name": 1}))


def candidates(feeder):
    """Ids of the candidates of each workflow."""
    gates = feeder.launchpad.fireworks.find({"spec.step": "gate"}, {"fw_id": 1, "spec": 1})
    ids = {gate["fw_id"]: gate["spec"]["candidate_id"] for gate in gates}
    workflows = feeder.launchpad.workflows.find({}, {"nodes": 1})
    found = [sorted(ids[n] for n in each["nodes"] if n in ids) for each in workflows]
    return [each for each in found if each]


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


def test_a_workflow_that_ends_makes_room_for_another(databases):
    feeder = feeder_of(databases, workflows_at_once=2)
    store_shared(feeder)
    assert feeder.backlog() == (0, 2, 2, 0)
    assert feeder.feed() == 2
    assert feeder.backlog() == (2, 0, 2, 0)
    assert feeder.feed() == 0
    end_workflows(feeder, 1)
    assert feeder.feed() == 1
    assert feeder_of(databases).feed() == 0  # the bound is remembered
    assert feeder_of(databases, workflows_at_once=100).feed() == 1
    assert feeder.backlog() == (N_COMPOSITIONS, 0, 0, 0)


def test_candidates_follow_from_selections_in_chunks(databases):
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


def test_nothing_is_evaluated_before_the_references_are_there(databases):
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


def test_a_candidate_with_a_verdict_is_not_evaluated_again(databases):
    feeder = feeder_of(databases)
    store_shared(feeder)
    gate = {"campaign": "mg-o", "step": "gate", "candidate_id": "a"}
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update([{"uuid": "gate of a", "index": 1, "metadata": gate, "output": {}}])
    store_selection(feeder, 0, ["a", "b"])
    feeder.feed()
    assert candidates(feeder) == [["b"]]


@pytest.mark.parametrize("names_of_survivors", [(), tuple(f"{n:03d}" for n in range(CHUNK + 1))])
def test_many_feeders_queue_nothing_twice(databases, names_of_survivors):
    feeder = feeder_of(databases, workflows_at_once=3)
    store_shared(feeder)
    if names_of_survivors:
        store_selection(feeder, 0, names_of_survivors)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: Feeder(feeder.campaign, databases).feed(), range(4)))
    assert sum(added) == 3
    assert len(names(feeder)) == 3
    assert sorted(chain.from_iterable(candidates(feeder))) == list(names_of_survivors)


def test_what_a_killed_feeder_added_by_halves_is_added_again(databases, monkeypatch):
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
    assert 0 < feeder.feed() < N_COMPOSITIONS  # what was complete stays
    workflows = list(feeder.launchpad.workflows.find())
    units = {each["metadata"]["unit"] for each in workflows}
    assert len(units) == len(workflows) == N_COMPOSITIONS
    ids = [job["fw_id"] for job in feeder.launchpad.fireworks.find({}, {"fw_id": 1})]
    assert sorted(ids) == sorted(node for each in workflows for node in each["nodes"])


def test_references_release_every_campaign_that_shares_them(databases):
    first = feeder_of(databases)
    second = feeder_of(databases, campaign_of(name="second"))
    first.feed()
    assert second.feed() == 0  # references and training are queued already
    store_shared(first)
    assert feed_all(databases, first.units.references) == 2 * N_COMPOSITIONS
    assert feed_all(databases) == 0


def test_a_campaign_that_cannot_be_fed_does_not_stop_the_others(databases, monkeypatch):
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
def test_a_campaign_of_another_version_is_not_fed(databases, changes):
    feeder_of(databases)
    settings = campaign_of(name="newer").model_dump(mode="json") | changes
    submission = {"owners": ["newer"]}
    with databases.store("campaigns", key="name") as campaigns:
        campaigns.update([{"name": "newer", "settings": settings, "submission": submission}])
        assert [campaign.name for campaign in stored_campaigns(campaigns)] == ["mg-o"]
    assert feed_all(databases) == 2


def test_references_of_the_potentials_of_a_prescreen_are_shared(databases):
    prescreen = {"potential": "sevennet-0"}  # and CHGNet confirms
    first = feeder_of(databases, campaign_of(prescreen=prescreen))
    second = feeder_of(databases, campaign_of(name="second", prescreen=prescreen))
    assert first.feed() == 3  # the references of CHGNet serve candidates and confirmation
    assert names(first) == ["references", "references sevennet-0", "train generator"]
    assert second.feed() == 0
    assert second.backlog().queued == 3
    _, screening, _ = first.units.shared
    store_shared(first, but=[screening])
    assert first.feed() == 0  # no composition starts without a hull
    store_shared(first)
    # The release at the end of that unit lets the compositions of both campaigns start.
    assert feed_all(databases, screening) == 2 * N_COMPOSITIONS


def test_every_job_has_its_workers_and_no_credentials(databases):
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


def test_a_machine_without_gpu_sends_everything_elsewhere(databases):
    routing = {"train": "cpu", "generate": "cpu"}
    feeder = feeder_of(databases, campaign_of(routing=routing))
    feeder.feed()
    store_shared(feeder)
    feeder.feed()
    assert set(feeder.launchpad.fireworks.distinct("spec._category")) == {"cpu"}


def test_what_everything_waits_for_is_taken_first_and_new_samples_last(databases):
    feeder = feeder_of(databases, campaign_of(prescreen={"confirm": "none"}))
    feeder.feed()
    store_shared(feeder)
    store_selection(feeder, 0, ["a"])
    feeder.feed()
    priorities = {}
    for job in feeder.launchpad.fireworks.find({}, {"spec._priority": 1, "spec.step": 1}):
        priorities.setdefault(job["spec"]["step"], set()).add(job["spec"]["_priority"])
    assert all(len(each) == 1 for each in priorities.values())
    in_order = sorted(priorities, key=lambda step: max(priorities[step]))
    assert in_order == ["propose", "prescreen", "select", "gate", "references", "train", "release"]


def test_more_structures_evaluate_no_candidate_again(databases):
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


def test_more_compositions_are_added_alone(databases):
    feeder = feeder_of(databases, campaign_of(compositions=COMPOSITIONS[:1]))
    store_shared(feeder)
    assert feeder.feed() == 1
    assert feeder_of(databases).feed() == N_COMPOSITIONS - 1


def test_other_settings_need_an_extension_or_another_name(databases):
    feeder_of(databases)
    changed = campaign_of(thresholds={"pourbaix": 0.4})
    with pytest.raises(UserError, match=r"thresholds.pourbaix.*--extend"):
        register(changed, databases, extend=False)
    register(changed, databases, extend=True)
    other = campaign_of(pourbaix={"ph_max": 10})
    with pytest.raises(UserError, match=r"pourbaix.ph_max.*restore"):
        register(other, databases, extend=True)
