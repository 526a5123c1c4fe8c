"""Division of a campaign into workflows."""

from __future__ import annotations

import pytest

from flows.campaign import compositions_of
from gan_htvs.core.candidate import Screened
from launchers.launchpad.database import open_databases
from launchers.launchpad.units import CHUNK, CampaignUnits
from tests.helpers import mg_o, proposal, rocksalt
from tests.jobs import store_output, store_references

PHASES = ("Mg hcp", "MgO periclase")


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        yield databases


@pytest.fixture
def units():
    return CampaignUnits(mg_o(compositions=["Mg2O2", "Mg3O3"], prescreen=None))


def store_selection(databases, units, composition, names):
    structure = rocksalt()
    survivors = [proposal(name, structure) for name in names]
    uuid = dict(zip(compositions_of(units.campaign), units.compositions, strict=True))[composition]
    store_output(databases, uuid, Screened(proposals=survivors))


def ids(units, databases):
    return [chunk.ids for chunk in units.chunks(databases)]


def test_chunks_have_limited_size_and_one_composition(databases, units):
    store_references(databases, units, PHASES)
    first = [f"first-{number}" for number in range(CHUNK + 2)]
    store_selection(databases, units, "Mg2O2", first)
    store_selection(databases, units, "Mg3O3", ["last"])
    phases, *others = units.chunks(databases)
    survivors = units.survivors(phases, databases)
    assert {survivor.origin.label for survivor in survivors} == set(PHASES)
    assert [chunk.ids for chunk in others] == [first[:CHUNK], first[CHUNK:], ["last"]]
    survivors = units.survivors(others[1], databases)
    assert [survivor.candidate_id for survivor in survivors] == first[CHUNK:]


def test_candidate_with_verdict_is_not_evaluated_again(databases, units):
    store_references(databases, units, PHASES)
    store_selection(databases, units, "Mg2O2", ["a", "b", "c"])
    label = {"campaign": "mg-o", "step": "gate"}
    store_output(databases, "gate of b", None, candidate_id="b", **label)
    store_output(
        databases, "gate elsewhere", None, candidate_id="c", **label | {"campaign": "other"}
    )
    assert ids(units, databases)[1:] == [["a", "c"]]


def test_candidate_of_two_selections_is_evaluated_once(databases, units):
    store_references(databases, units, PHASES)
    store_selection(databases, units, "Mg2O2", ["a", "b"])
    store_selection(databases, units, "Mg3O3", ["b", "c"])
    assert ids(units, databases)[1:] == [["a", "b"], ["c"]]


def test_key_of_candidate_unit_is_reproducible(databases, units):
    store_references(databases, units, PHASES)
    store_selection(databases, units, "Mg2O2", ["a", "b"])
    keys = [
        [units.unit(chunk, databases).key for chunk in units.chunks(databases)] for _ in range(2)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
