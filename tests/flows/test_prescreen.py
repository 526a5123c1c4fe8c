from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from jobflow import Job, JobStore
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from flows.notes import StoredNotes
from flows.prescreen import (
    prescreen_job,
    proposal_uuid,
    reference_jobs,
    reference_uuids,
    relax_known_phases,
)
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Origin, Proposal, Verdict
from gan_htvs.descent import Descent, Ending
from gan_htvs.documents import decode, encode
from gan_htvs.engines import DescentSettings
from gan_htvs.errors import UserError
from gan_htvs.prescreen.pack import Prescreen
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

REFERENCES = "uuid-of-the-references"
ENERGIES = {"Mg": -1.606, "O2": -4.948, "MgO": -6.32}


def campaign(**changes) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "mg-o",
            "chemical_system": {"caps": {"Mg": 4, "O": 4}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "compositions": ["MgO"],
            "prescreen": {"confirm": "none", "max_steps": 60},
        }
        | changes
    )


def references(level: str = "CHGNet-0.3.0") -> ReferenceSet:
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=name, formula=name, energy_per_atom=energy, level_of_theory=level)
            for name, energy in ENERGIES.items()
        )
    )


def rocksalt(length: float = 4.3) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def proposal(name: str, structure: Structure) -> Proposal:
    origin = Origin(proposer="random", requested_composition="MgO", index=0)
    return Proposal(candidate_id=name, structure=structure, origin=origin)


PACK = (
    proposal("good", rocksalt()),
    proposal("again", rocksalt(4.25) * (1, 1, 2)),
    proposal("high", Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0] * 3, [0.5] * 3])),
)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Processes of their own take seconds to start."""
    monkeypatch.setattr("flows.prescreen.cores", lambda: None)


@pytest.fixture
def store() -> JobStore:
    store = JobStore(MemoryStore())
    store.connect()
    documents = {proposal_uuid(each.candidate_id): each for each in PACK}
    store.update(
        [
            {"uuid": uuid, "index": 1, "output": output}
            for uuid, output in (documents | {REFERENCES: references()}).items()
        ]
    )
    return store


def run(search: Campaign, store: JobStore, pack=PACK):
    return prescreen_job(search, REFERENCES, "shard", pack).run(store)


def verdicts(store: JobStore) -> dict[str, Verdict]:
    found = store.query({"metadata.step": "gate"})
    return {each["metadata"]["candidate_id"]: decode(each["output"]) for each in found}


def test_who_leaves_has_a_verdict_and_who_survives_goes_to_the_gate(store):
    response = run(campaign(), store)
    assert response.output["counts"] == {
        "survived": 1,
        "duplicate before relaxation": 1,
        "hull window": 1,
    }
    left = verdicts(store)
    assert set(left) == {"again", "high"}
    assert left["again"].stage == "rejected"
    assert left["again"].reason.startswith("duplicate before relaxation: the same crystal as good")
    assert left["again"].prescreen.duplicate_of == "good"
    assert left["high"].prescreen.energy_above_hull > 0.2
    assert left["high"].relaxed is None, "its energy was for the prescreen alone"
    for firework in flow_to_workflow(response.detour).fws:
        assert "lattice" not in str(firework.to_db_dict())
    (gate,) = response.detour.jobs
    assert gate.metadata["candidate_id"] == "good"
    # The gate reads energy and structure where the prescreen has stored them.
    verdict = gate.run(store).output
    assert verdict.prescreen.survives
    assert verdict.relaxed.converged
    assert verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.02)


def test_a_second_run_relaxes_nothing_and_sends_on_nothing_twice(store, monkeypatch):
    gate = run(campaign(), store).detour.jobs[0]
    gate.run(store)
    count = store.count()

    def no_more(*work):
        raise AssertionError(work)

    monkeypatch.setattr("gan_htvs.prescreen.pack.relax_one", no_more)
    response = run(campaign(), store)
    assert response.detour is None
    assert response.output["counts"]["survived"] == 1
    assert store.count() == count


def test_a_survivor_is_relaxed_by_vasp_from_where_the_potential_left_it(store):
    search = campaign(
        engines={"energy": {"name": "vasp"}, "band_gap": {"name": "none"}},
        prescreen={"potential": "chgnet", "confirm": "none"},
    )
    first, second = reference_uuids(search, REFERENCES)
    assert first != REFERENCES, "energies of two levels never meet"
    assert second is None
    store.update([{"uuid": first, "index": 1, "output": references()}])
    (flow,) = run(search, store).detour.jobs
    (structure,) = [each for each in flow.jobs[0].function_args if isinstance(each, Structure)]
    assert structure.volume == pytest.approx(19.3, abs=0.3), "of CHGNet"
    assert structure != PACK[0].structure


def test_energies_of_another_level_are_refused():
    with pytest.raises(UserError, match="CHGNet"):
        Prescreen.of(campaign(), references("PBE(+U)+MP2020"))


def test_known_phases_are_relaxed_by_each_potential_once_for_all_campaigns(store):
    search = campaign(prescreen={})
    (confirming,) = reference_jobs(search, REFERENCES)
    assert confirming.name == "known phases (sevennet-0)"
    assert reference_uuids(search, REFERENCES) == (REFERENCES, confirming.uuid)
    other = campaign(prescreen={}, name="other")
    assert [each.uuid for each in reference_jobs(other, REFERENCES)] == [confirming.uuid]
    assert reference_jobs(campaign(prescreen=None), REFERENCES) == []


def test_known_phases_go_on_where_they_were_stopped(store, monkeypatch):
    """With CHGNet, whose small relaxations take a second."""
    search, descent = campaign(), DescentSettings(name="chgnet")
    relaxing = relax_known_phases(search, descent)
    relaxing.set_uuid("here")
    found = relaxing.run(store).output
    assert found.level_of_theory == "CHGNet-0.3.0"
    assert found.energy_above_hull("MgO", -6.3) == pytest.approx(0, abs=0.05)
    monkeypatch.setattr("flows.prescreen.relax_reference_phase", None)
    assert relaxing.run(store).output == found


def test_a_known_phase_that_failed_is_relaxed_again(store, monkeypatch):
    relaxing = relax_known_phases(campaign(), DescentSettings(name="chgnet"))

    def fail(structure, settings):
        return Descent(ending=Ending.RAISED, reason="out of memory")

    monkeypatch.setattr("flows.prescreen.relax_reference_phase", fail)
    with pytest.raises(UserError, match=r"out of memory; use another prescreen\.potential"):
        relaxing.run(store)
    monkeypatch.undo()
    monkeypatch.setattr("flows.prescreen.cores", lambda: None)
    assert relaxing.run(store).output.level_of_theory == "CHGNet-0.3.0"


def in_a_job(store: JobStore, function):
    """Call a function as a job, where the store is known."""
    from flows.steps import READS_STORE

    return Job(function, config=READS_STORE).run(store).output


def move_claim(store: JobStore, name: str, span: timedelta) -> None:
    """Let a claim of one structure have been made at another time."""
    stored = store.query({"metadata.note": "claim"})
    (claim,) = [each for each in stored if list(each["output"]["starts"]) == [name]]
    claim["output"]["claimed_at"] = (datetime.now(UTC) + span).isoformat()
    store.update([claim])


def test_all_packs_read_claims_in_one_order(store):
    notes = StoredNotes("mg-o")
    first = in_a_job(store, lambda: notes.claim({"a": rocksalt()}))
    second = in_a_job(store, lambda: notes.claim({"b": rocksalt()}))
    again = in_a_job(store, lambda: notes.claim({"a": rocksalt()}))
    assert list(first) == ["a"]
    assert list(second) == list(again) == ["a", "b"]


def test_an_older_claim_comes_first(store):
    notes = StoredNotes("mg-o")
    in_a_job(store, lambda: notes.claim({"a": rocksalt()}))
    in_a_job(store, lambda: notes.claim({"b": rocksalt()}))
    move_claim(store, "b", timedelta(minutes=-5))
    assert list(in_a_job(store, lambda: notes.claim({"a": rocksalt()}))) == ["b", "a"]
    # Asked for again, with more: its place is that of the first time.
    longer = in_a_job(store, lambda: notes.claim({"c": rocksalt(), "b": rocksalt()}))
    assert list(longer) == ["b", "a", "c"]
    assert list(in_a_job(store, lambda: StoredNotes("other").claim({"d": rocksalt()}))) == ["d"]


def test_a_verdict_of_the_gate_is_not_overwritten(store):
    run(campaign(), store).detour.jobs[0].run(store)
    before = verdicts(store)["good"]
    in_a_job(store, lambda: StoredNotes("mg-o").claim({"theirs": rocksalt()}))
    move_claim(store, "theirs", timedelta(minutes=-5))
    counts = run(campaign(), store).output["counts"]
    assert counts["duplicate before relaxation"] == 2
    assert verdicts(store)["good"] == before


def test_documents_come_back_as_they_were(store):
    run(campaign(), store)
    (descent,) = [
        decode(each["output"])
        for each in store.query({"metadata.note": "descent", "metadata.candidate_id": "good"})
    ]
    assert len(descent.curve.energies) == descent.relaxed.n_steps + 1
    assert type(descent).model_validate(decode(encode(descent))) == descent
