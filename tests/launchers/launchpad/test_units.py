"""Which candidates are evaluated together."""

from __future__ import annotations

import pytest
from monty.json import jsanitize

from flows.campaign import compositions_of
from gan_htvs.prescreen.documents import Selection, Survivor
from launchers.launchpad.database import open_databases
from launchers.launchpad.units import CHUNK, CampaignUnits
from tests.helpers import mg_o, proposal, relaxed, rocksalt

PHASES = ("Mg hcp", "MgO periclase")


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        yield databases


@pytest.fixture
def units():
    return CampaignUnits(mg_o(compositions=["Mg2O2", "Mg3O3"], prescreen=None))


def write(databases, uuid, output, **metadata):
    document = {"uuid": uuid, "index": 1, "output": jsanitize(output, strict=True)}
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update([document | {"metadata": metadata}])


def write_references(databases, units):
    relaxing = units.flows.shared["references"].jobs[0].output.uuid
    write(databases, relaxing, {name: relaxed() for name in PHASES})
    write(databases, units.references, None)


def write_selection(databases, units, composition, names):
    structure = rocksalt()
    survivors = [Survivor(proposal=proposal(name, structure)) for name in names]
    uuid = dict(zip(compositions_of(units.campaign), units.compositions, strict=True))[composition]
    write(databases, uuid, Selection(survivors=survivors))


def ids(units, databases):
    return [chunk.ids for chunk in units.chunks(databases)]


def test_nothing_is_evaluated_before_the_references_are_there(databases, units):
    write_selection(databases, units, "Mg2O2", ["a", "b"])
    assert units.chunks(databases) == []


def test_a_workflow_has_at_most_fifty_candidates_of_one_composition(databases, units):
    write_references(databases, units)
    first = [f"first-{number}" for number in range(CHUNK + 2)]
    write_selection(databases, units, "Mg2O2", first)
    write_selection(databases, units, "Mg3O3", ["last"])
    phases, *others = units.chunks(databases)
    survivors = units.survivors(phases, databases)
    assert {survivor.proposal.origin.label for survivor in survivors} == set(PHASES)
    assert [chunk.ids for chunk in others] == [first[:CHUNK], first[CHUNK:], ["last"]]
    found = units.survivors(others[1], databases)
    assert [survivor.proposal.candidate_id for survivor in found] == first[CHUNK:]


def test_a_candidate_with_a_verdict_is_not_evaluated_again(databases, units):
    write_references(databases, units)
    write_selection(databases, units, "Mg2O2", ["a", "b", "c"])
    label = {"campaign": "mg-o", "step": "gate"}
    write(databases, "gate of b", None, candidate_id="b", **label)
    write(databases, "gate elsewhere", None, candidate_id="c", **label | {"campaign": "other"})
    assert ids(units, databases)[1:] == [["a", "c"]]


def test_a_candidate_of_two_selections_is_evaluated_once(databases, units):
    write_references(databases, units)
    write_selection(databases, units, "Mg2O2", ["a", "b"])
    write_selection(databases, units, "Mg3O3", ["b", "c"])
    assert ids(units, databases)[1:] == [["a", "b"], ["c"]]


def test_units_of_the_same_candidates_have_the_same_key(databases, units):
    write_references(databases, units)
    write_selection(databases, units, "Mg2O2", ["a", "b"])
    keys = [
        [units.candidate_unit(chunk, databases).key for chunk in units.chunks(databases)]
        for _ in range(2)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
