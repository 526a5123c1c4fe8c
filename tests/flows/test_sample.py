from __future__ import annotations

import json

import pytest
from jobflow import CURRENT_JOB, JobStore
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Structure

from flows.sample import Shard, sample_shard, shard_job, shard_uuid, shards
from gan_htvs.campaign import Campaign
from gan_htvs.campaign_file import checked_campaign
from gan_htvs.prescreen.settings import PrescreenSettings
from gan_htvs.proposers import ProposerName

CAMPAIGN = {
    "name": "v-o",
    "chemical_system": {"caps": {"V": 4, "O": 8}},
    "oxidation_states": {"V": [2, 5], "O": [-2, -2]},
    "compositions": ["V2O4"],
    "prescreen": None,
}


def fireworks_of(search: Campaign):
    """Run the job of the first shard, and make the Fireworks of what it adds."""
    (shard, *_) = shards(search)
    store = JobStore(MemoryStore())
    store.connect()
    response = shard_job(search, shard, None, "uuid-of-the-references").run(store)
    return store, flow_to_workflow(response.detour).fws


def test_each_structure_travels_by_a_reference_of_its_own():
    search = campaign("symmetric", n=4)
    store, fireworks = fireworks_of(search)
    assert [fw.name.split()[0] for fw in fireworks].count("gate") == 4
    for firework in fireworks:
        assert "lattice" not in json.dumps(firework.to_db_dict(), default=str)
    relaxations = [fw for fw in fireworks if fw.name.startswith("relax")]
    references = [fw.tasks[0]["job"].function_args[0] for fw in relaxations]
    # Jobflow loads all that stands in the output that a reference points into.
    assert len({reference.uuid for reference in references}) == 4
    proposals = store.query_one({"metadata.step": "propose"})["output"]["proposals"]
    resolved = [MontyDecoder().process_decoded(each.resolve(store)) for each in references]
    assert resolved == [Structure.from_dict(each["structure"]) for each in proposals]


def test_what_a_shard_adds_goes_to_its_own_workers():
    routing = {"generate": "gpu", "potential": "hse", "other": "dft"}
    search = checked_campaign(CAMPAIGN | {"routing": routing}, "v-o.yaml").model_copy(
        update={"sampling": campaign("random", n=1).sampling}
    )
    _, fireworks = fireworks_of(search)
    routed = {fw.spec["step"]: (fw.spec["_category"], fw.spec["_priority"]) for fw in fireworks}
    assert {step: category for step, (category, _) in routed.items()} == {
        "relax": "hse",
        "static": "hse",
        "gate": "dft",
    }
    assert routed["relax"][1] < routed["static"][1] < routed["gate"][1]


@pytest.fixture
def empty_store(monkeypatch):
    """Let the job run as a function: nothing has been computed before."""
    store = JobStore(MemoryStore())
    store.connect()
    monkeypatch.setattr(CURRENT_JOB, "store", store, raising=False)
    return store


def campaign(*proposers: str, n: int = 3, **sampling) -> Campaign:
    settings = {"proposers": proposers, "structures_per_composition": n, **sampling}
    return checked_campaign(CAMPAIGN | {"sampling": settings}, "v-o.yaml")


@pytest.mark.parametrize("proposer", ["random", "symmetric", "substitution"])
def test_a_shard_tells_where_its_structures_come_from(empty_store, proposer):
    search = campaign(proposer)
    (shard,) = shards(search)
    response = sample_shard.original(search, shard, None, "references")
    proposals = response.output["proposals"]
    assert [p.origin.proposer for p in proposals] == [proposer] * 3
    assert all(p.origin.checkpoint is None for p in proposals)
    assert all(p.structure.composition.formula == "V2 O4" for p in proposals)
    assert response.output["tried"] >= response.output["found"] == len(proposals)
    assert len(response.detour.jobs) == 3


def test_with_a_prescreen_a_shard_adds_one_job_that_knows_structures_by_id(empty_store):
    search = checked_campaign(CAMPAIGN | {"prescreen": {}}, "v-o.yaml").model_copy(
        update={"sampling": campaign("random", n=3).sampling}
    )
    response = sample_shard.original(search, shards(search)[0], None, "references")
    (pack,) = response.detour.jobs
    assert pack.metadata["step"] == "prescreen"
    ids = [proposal.candidate_id for proposal in response.output["proposals"]]
    assert pack.function_args[2] == ids
    moved = [proposal.origin.max_displacement for proposal in response.output["proposals"]]
    assert max(moved) > 0


def test_a_list_longer_than_a_shard_is_prescreened_in_several_jobs(empty_store):
    search = checked_campaign(CAMPAIGN | {"prescreen": {}}, "v-o.yaml").model_copy(
        update={"sampling": campaign("substitution", n=5, shard_size=2).sampling}
    )
    response = sample_shard.original(search, shards(search)[0], None, "references")
    packs = [pack.function_args[2] for pack in response.detour.jobs]
    assert [len(pack) for pack in packs] == [2, 2, 1]
    ids = [proposal.candidate_id for proposal in response.output["proposals"]]
    assert [candidate_id for pack in packs for candidate_id in pack] == ids


def test_candidates_keep_their_ids_when_more_are_asked_for(empty_store):
    few, more = (
        sample_shard.original(search, shards(search)[0], None, "references").output["proposals"]
        for search in (campaign("random", n=2), campaign("random", "substitution", n=4))
    )
    assert [p.candidate_id for p in few] == [p.candidate_id for p in more[:2]]
    assert [p.structure for p in few] == [p.structure for p in more[:2]]
    assert len({p.candidate_id for p in more}) == 4


def gates_sent(search: Campaign) -> set[str]:
    """Run the first shard, and list the gates that it adds."""
    detour = sample_shard.original(search, shards(search)[0], None, "references").detour
    jobs = [job for job, _ in detour.iterflow()] if detour else []
    return {job.uuid for job in jobs if job.metadata["step"] == "gate"}


@pytest.mark.parametrize("changes", [{"n": 3}, {"max_tries_per_structure": 300}])
def test_an_extended_shard_leaves_out_who_waits_for_a_node(empty_store, changes):
    few, extended = campaign("random", n=2), campaign("random", **{"n": 2} | changes)
    assert shard_uuid(few, shards(few)[0]) != shard_uuid(extended, shards(extended)[0])
    waiting = gates_sent(few)
    assert len(waiting) == 2
    added = gates_sent(extended)
    assert len(added) == changes.get("n", 2) - 2
    assert not added & waiting
    # Either may be taken up again after it was killed before its jobs were queued.
    assert gates_sent(few) == waiting
    assert gates_sent(extended) == added


def test_an_extended_shard_prescreens_only_who_is_new(empty_store):
    packs = []
    for n in (2, 3):
        search = campaign("random", n=n).model_copy(update={"prescreen": PrescreenSettings()})
        response = sample_shard.original(search, shards(search)[0], None, "references")
        (pack,) = response.detour.jobs
        packs.append(pack.function_args[2])
    ids = [proposal.candidate_id for proposal in response.output["proposals"]]
    assert packs == [ids[:2], ids[2:]]


def test_a_shard_that_runs_after_the_longer_one_adds_nothing(empty_store):
    assert len(gates_sent(campaign("random", n=3))) == 3
    assert not gates_sent(campaign("random", n=2))


def test_structures_judged_by_other_references_are_sent_again(empty_store):
    search = campaign("random", n=2)
    first = gates_sent(search)
    response = sample_shard.original(search, shards(search)[0], None, "other references")
    sent = {job.uuid for job, _ in response.detour.iterflow() if job.metadata["step"] == "gate"}
    assert len(sent) == 2
    assert not sent & first


def test_a_list_that_ends_is_reported(empty_store):
    search = campaign("substitution", n=500)
    output = sample_shard.original(search, shards(search)[0], None, "references").output
    assert output["exhausted"]
    assert output["requested"] == 500
    assert output["tried"] == output["found"] + sum(output["rejections"].values())


def test_a_shard_survives_the_way_to_a_worker():
    search = campaign("random", "substitution")
    sent = jsanitize({"campaign": search, "shards": shards(search)}, strict=True, enum_values=True)
    there = MontyDecoder().process_decoded(sent)
    assert there["campaign"] == search
    assert there["shards"] == shards(search)
    assert isinstance(there["shards"][0].proposer, ProposerName)


def test_streams_differ_by_proposer_and_seed():
    search = campaign("random")
    streams = {
        Shard(proposer=name, composition="V2O4", n_structures=3, seed=seed).stream(search)
        for name in ProposerName
        for seed in (0, 1)
    }
    assert len(streams) == 8
