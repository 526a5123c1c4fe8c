from __future__ import annotations

from itertools import chain
from operator import attrgetter

import numpy as np
import pytest
from maggma.stores import MemoryStore

from gan_htvs.core.candidate import Candidate, Novelty
from gan_htvs.core.document import encode
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.results.filters import Filters
from gan_htvs.results.store import INDEXES, CandidateStore
from launchers.launchpad.database import open_databases
from tests.documents import candidate

CANDIDATES = [
    candidate(
        "a",
        energy_above_hull=0.1,
        band_gap=2.0,
        minimum=0.4,
        stage=Stage.PHOTOANODE,
        duplicate_of="e",
    ),
    candidate("b", "Mn", energy_above_hull=0.0, band_gap=1.0, stage=Stage.STABLE),
    candidate("c", "Mn", energy_above_hull=-0.5, stage=Stage.REJECTED),  # a hole
    candidate("d", campaign="second"),
    candidate("e", energy_above_hull=0.05, minimum=0.9, stage=Stage.STABLE),
    candidate(
        "f",
        energy_above_hull=0.2,
        band_gap=3.0,
        novelty=Novelty(is_novel=True, training_match=None, reference_match=None),
    ),
]


@pytest.fixture(params=["memory", "server"])
def filled(request):
    """Put candidates into maggma's memory, or into a collection of pymongo."""
    if request.param == "memory":

        def fill(candidates):
            memory = MemoryStore(key="candidate_id")
            memory.connect()
            memory.update([encode(each) for each in candidates])
            return CandidateStore(memory)

        yield fill
        return
    with open_databases(request.getfixturevalue("launchpad_file")) as databases:
        collection = databases.launchpad().db["candidates"]

        def fill(candidates):
            for keys in INDEXES:
                collection.create_index(keys)
            collection.insert_many([encode(each) for each in candidates])
            return CandidateStore(collection)

        yield fill


@pytest.fixture
def store(filled):
    return filled(CANDIDATES)


def names(found) -> str:
    return "".join(each.candidate_id for each in found)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "beafcd"),
        ({"campaign": "second"}, "d"),
        ({"formula": "OMn"}, "bc"),
        ({"chemsys": "O-Mg"}, "eafd"),
        ({"stage": "stable"}, "be"),
        ({"stage": [Stage.STABLE, Stage.PHOTOANODE]}, "bea"),
        ({"formula": "O0.5Mg0.5"}, "eafd"),
        ({"proposer": "random"}, ""),
        ({"energy_above_hull": (None, 0.1)}, "beac"),
        ({"energy_above_hull": (0.05, 0.1)}, "ea"),
        ({"energy_above_hull": "..-0.1"}, "c"),
        ({"band_gap": (1.6, 3.0)}, "af"),
        ({"band_gap": "1.6.."}, "af"),
        ({"pourbaix_min": (None, 0.5)}, "a"),
        ({"nsites": "3..5"}, ""),
        ({"is_novel": True}, "f"),
        ({"unique": True}, "befcd"),
        ({"unique": True, "stage": "photoanode"}, "a"),
        ({"unique": True, "band_gap": "1.6.."}, "af"),
        ({"reference_phases": True}, ""),
        ({"reference_phases": False, "stage": "stable"}, "be"),
        ({"chemsys": "Mg-O", "energy_above_hull": (None, 0.15), "band_gap": (None, 2.5)}, "a"),
    ],
)
def test_filters_find_what_they_name(store, filters, expected):
    assert names(store.query(**filters)) == expected
    assert store.count(**filters) == len(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("-energy_above_hull", "faebcd"),
        ("band_gap", "bafcde"),
        ("-band_gap", "fabcde"),
        ("pourbaix_min", "aebcdf"),
        ("-candidate_id", "fedcba"),
        ("formula", "adefbc"),
    ],
)
def test_who_has_no_value_comes_last_whatever_the_order(store, sort, expected):
    assert names(store.query(sort=sort)) == expected


def test_pages_make_up_the_whole(store):
    whole = names(store.query(sort="band_gap"))
    for size in range(1, 8):
        pages = [
            names(store.query(sort="band_gap", skip=skip, limit=size)) for skip in range(0, 8, size)
        ]
        assert "".join(pages) == whole
        assert all(len(page) <= size for page in pages)
    assert [row["candidate_id"] for row in store.rows(limit=2)] == ["b", "e"]


def found_again(number: int = 60) -> list[Candidate]:
    """Candidates of twenty crystals, which two campaigns find again and again."""
    rng = np.random.default_rng(0)
    stages = [Stage.PHOTOANODE, Stage.POURBAIX_STABLE]
    crystals: dict[int, list[Candidate]] = {}
    for i in range(number):
        has_gap = rng.random() < 0.6
        crystals.setdefault(int(rng.integers(20)), []).append(
            candidate(
                f"{int(rng.integers(16**4)):04x}{i:02}",
                campaign=str(rng.choice(["first", "second"])),
                energy_above_hull=round(float(rng.uniform(-0.09, 0.3)), 2),
                band_gap=float(rng.uniform(0, 4)) if has_gap else None,
                stage=stages[0 if has_gap else 1],
            )
        )
    for members in crystals.values():
        first, *others = sorted(members, key=attrgetter("energy_above_hull", "candidate_id"))
        for each in others:
            each.duplicate_of = first.candidate_id
    return list(chain.from_iterable(crystals.values()))


@pytest.mark.parametrize(
    "sort", ["energy_above_hull", "-energy_above_hull", "-band_gap", "formula"]
)
@pytest.mark.parametrize("filters", [{}, {"campaign": "first"}, {"stage": "photoanode"}])
def test_no_crystal_is_lost_and_none_is_there_twice(filled, monkeypatch, sort, filters):
    monkeypatch.setattr("gan_htvs.results.store.TOGETHER", 8)
    store = filled(found_again())
    everybody = store.query(sort=sort, **filters)
    lowest = {}
    for each in store.query(**filters):
        lowest.setdefault(each.duplicate_of or each.candidate_id, each.candidate_id)
    expected = [e.candidate_id for e in everybody if e.candidate_id in lowest.values()]
    assert len(expected) >= 15
    assert len(everybody) > len(expected)

    unique = {"sort": sort, "unique": True, **filters}
    assert [each.candidate_id for each in store.query(**unique)] == expected
    assert store.count(unique=True, **filters) == len(expected)
    for size in (1, 7, 30):
        pages = [store.rows(skip=k, limit=size, **unique) for k in range(0, len(expected), size)]
        assert [row["candidate_id"] for row in chain(*pages)] == expected
    alone = store.query(fields=["band_gap"], limit=5, **unique)
    gaps = {each.candidate_id: each.band_gap for each in everybody}
    assert [each.model_dump() for each in alone] == [{"band_gap": gaps[i]} for i in expected[:5]]


def test_a_crystal_is_in_every_campaign_that_found_it(filled):
    lower = candidate("b1", campaign="B", energy_above_hull=0.0)
    higher = candidate("a1", campaign="A", energy_above_hull=0.001, duplicate_of="b1")
    store = filled([lower, higher])
    assert names(store.query(campaign="A", unique=True)) == "a1"
    assert names(store.query(unique=True)) == "b1"
    assert store.count(campaign="A", unique=True) == 1


@pytest.mark.parametrize("filters", [{}, {"chemsys": "Mg-O"}, {"energy_above_hull": "0.01..0.15"}])
@pytest.mark.parametrize("sort", ["energy_above_hull", "-energy_above_hull", "formula"])
def test_a_page_is_the_beginning_of_the_whole(store, filters, sort):
    whole = names(store.query(sort=sort, **filters))
    for limit in range(1, 8):
        assert names(store.query(sort=sort, limit=limit, **filters)) == whole[:limit]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"formula": "MgO"},
        {"stage": "stable"},
        {"stage": "rejected"},
        {"campaign": "first", "energy_above_hull": "..0.15"},
        {"chemsys": "Mg-O"},
    ],
)
def test_a_server_answers_from_an_index(launchpad_file, filters):
    with open_databases(launchpad_file) as databases:
        collection = databases.launchpad().db["candidates"]
        for keys in INDEXES:
            collection.create_index(keys)
        collection.insert_many([encode(each) for each in CANDIDATES])
        plan = CandidateStore(collection).explain(**filters)["queryPlanner"]["winningPlan"]
    stages = []
    while plan:
        stages.append(plan["stage"])
        plan = plan.get("inputStage")
    assert "IXSCAN" in stages
    assert "COLLSCAN" not in stages


def test_documents_are_typed_and_some_fields_come_alone(store):
    (found,) = store.query(stage="photoanode")
    assert found.model_dump(exclude={"last_updated"}) == CANDIDATES[0].model_dump(
        exclude={"last_updated"}
    )
    assert found.structure == CANDIDATES[0].structure
    (partial,) = store.query(stage="photoanode", fields=["stage", "pourbaix", "band_gap"])
    assert partial.stage is Stage.PHOTOANODE
    assert partial.pourbaix == CANDIDATES[0].pourbaix
    with pytest.raises(AttributeError):
        _ = partial.structure
    with pytest.raises(UserError, match="'energy' is none; there are candidate_id,"):
        store.query(fields=["energy"])
    assert store.get("z") is None
    assert "structure" not in store.rows()[0]


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"formula": {"$ne": None}}, "formula: must be text"),
        ({"campaign": {"$regex": ".*"}}, "campaign: must be text"),
        ({"stage": {"$where": "sleep(9)"}}, "stage: "),
        ({"energy_above_hull": {"$gt": 0}}, "energy_above_hull: "),
        ({"energy_above_hull": ({"$gt": 0}, 1)}, "energy_above_hull: "),
        ({"$where": "1"}, r"'\$where' is no filter; there are campaign, formula"),
        ({"stage": "best"}, "stage: input should be 'generated', "),
        ({"formula": "Xyz"}, "formula: 'Xyz' is no formula"),
        ({"formula": ""}, "formula: string should have at least 1 character"),
        ({"chemsys": "Mg-O-Mg"}, "chemsys: names an element twice"),
        ({"chemsys": "Mg-Zz"}, "chemsys: 'Zz' is no element; write a system as Mg-Mn-O"),
        ({"band_gap": "1.6"}, r"band_gap: '1.6' is no range; write 1.6..3.0"),
        ({"band_gap": (3, 1)}, "band_gap: 3 is more than 1; the smaller number comes first"),
        ({"band_gap": (float("nan"), 1)}, "band_gap: input should be a finite number"),
        ({"reference_phases": True, "proposer": "gan"}, "exclude each other; leave one out"),
        ({"spacegroup": 231}, "spacegroup: input should be less than or equal to 230"),
    ],
)
def test_what_is_no_filter_is_told_in_one_sentence(store, filters, told):
    with pytest.raises(UserError, match=told) as error:
        store.query(**filters)
    assert "\n" not in str(error.value)


def test_values_that_look_like_operators_are_values():
    assert Filters.of(campaign="$where").criteria() == {"campaign": "$where"}


def test_an_order_that_is_none_is_refused(store):
    with pytest.raises(UserError, match="sort: 'reason' is none of pourbaix_min, "):
        store.query(sort="reason")
    with pytest.raises(UserError, match="skip and limit"):
        store.query(skip=-1)
    with pytest.raises(UserError, match="skip and limit"):
        store.rows(limit=10**20)
