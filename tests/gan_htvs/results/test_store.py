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
        stage="photoanode",
        duplicate_of="e",
    ),
    candidate("b", "Mn", energy_above_hull=0.0, band_gap=1.0, stage="synthesizable"),
    candidate("c", "Mn", reference_decomposition_energy=-0.5, stage=Stage.REJECTED),  # implausible
    candidate("d", campaign="second"),
    candidate("e", energy_above_hull=0.05, minimum=0.9, stage="synthesizable"),
    candidate(
        "f",
        energy_above_hull=0.2,
        band_gap=3.0,
        novelty=Novelty(is_novel=True, training_match=None, reference_match=None),
    ),
]


@pytest.fixture(params=["memory", "server"])
def fill_store(request):
    """Return a function that stores candidates in a maggma MemoryStore or a pymongo collection."""
    if request.param == "memory":

        def fill(candidates):
            memory = MemoryStore(key="candidate_id")
            memory.connect()
            memory.update([encode(candidate) for candidate in candidates])
            return CandidateStore(memory)

        yield fill
        return
    with open_databases(request.getfixturevalue("launchpad_file")) as databases:
        collection = databases.launchpad().db["candidates"]

        def fill(candidates):
            for keys in INDEXES:
                collection.create_index(keys)
            collection.insert_many([encode(candidate) for candidate in candidates])
            return CandidateStore(collection)

        yield fill


@pytest.fixture
def store(fill_store):
    return fill_store(CANDIDATES)


def ids(candidates) -> str:
    return "".join(candidate.candidate_id for candidate in candidates)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "beafcd"),
        ({"campaign": "second"}, "d"),
        ({"formula": "OMn"}, "bc"),
        ({"chemsys": "O-Mg"}, "eafd"),
        ({"stage": "synthesizable"}, "be"),
        ({"stage": ["synthesizable", "photoanode"]}, "bea"),
        ({"formula": "O0.5Mg0.5"}, "eafd"),
        ({"proposer": "random"}, ""),
        ({"energy_above_hull": (None, 0.1)}, "bea"),
        ({"energy_above_hull": "..0"}, "b"),
        ({"energy_above_hull": (0.05, 0.1)}, "ea"),
        ({"energy_above_hull": "..-0.1"}, ""),
        ({"reference_decomposition_energy": "..-0.1"}, "c"),
        ({"decomposition_energy": "0.05..0.1"}, "ea"),
        ({"band_gap": (1.6, 3.0)}, "af"),
        ({"band_gap": "1.6.."}, "af"),
        ({"pourbaix_min": (None, 0.5)}, "a"),
        ({"nsites": "3..5"}, ""),
        ({"is_novel": True}, "f"),
        ({"unique": True}, "befcd"),
        ({"unique": True, "stage": "photoanode"}, "a"),
        ({"unique": True, "band_gap": "1.6.."}, "af"),
        ({"reference_phases": True}, ""),
        ({"reference_phases": False, "stage": "synthesizable"}, "be"),
        ({"chemsys": "Mg-O", "energy_above_hull": (None, 0.15), "band_gap": (None, 2.5)}, "a"),
    ],
)
def test_filters(store, filters, expected):
    assert ids(store.query(**filters)) == expected
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
def test_missing_values_sort_last_in_both_directions(store, sort, expected):
    assert ids(store.query(sort=sort)) == expected


@pytest.mark.parametrize("limit", [0, 9])
@pytest.mark.parametrize(
    ("sort", "filters", "expected"),
    [
        ("energy_above_hull", {}, "gibheafcd"),
        ("-energy_above_hull", {}, "faehbigcd"),
        ("energy_above_hull", {"stage": "synthesizable"}, "gibhe"),
        ("energy_above_hull", {"energy_above_hull": "..0"}, "gib"),
        ("energy_above_hull", {"unique": True, "formula": "MnO"}, "gibc"),
        ("decomposition_energy", {}, "gibheafcd"),
    ],
)
def test_stable_phases_are_sorted_by_decomposition_energy(
    fill_store, sort, filters, expected, limit
):
    def stable(name, energy, **more):
        above = max(energy, 0.0)
        fields = {"energy_above_hull": above, "decomposition_energy": energy}
        return candidate(name, "Mn", **fields, stage="synthesizable", **more)

    more = [stable("i", -0.1), stable("g", -0.2), stable("h", 0.01, duplicate_of="g")]
    store = fill_store([*CANDIDATES, *more])
    assert ids(store.query(sort=sort, limit=limit, **filters)) == expected


def test_pages_concatenate_to_the_full_result(store):
    whole = ids(store.query(sort="band_gap"))
    for size in range(1, 8):
        pages = [
            ids(store.query(sort="band_gap", skip=skip, limit=size)) for skip in range(0, 8, size)
        ]
        assert "".join(pages) == whole
        assert all(len(page) <= size for page in pages)
    assert [row["candidate_id"] for row in store.rows(limit=2)] == ["b", "e"]


def duplicates_in_two_campaigns(number: int = 60) -> list[Candidate]:
    """Candidates of twenty crystals, found several times in two campaigns."""
    rng = np.random.default_rng(0)
    stages = ["photoanode", "pourbaix_metastable"]
    crystals: dict[int, list[Candidate]] = {}
    for i in range(number):
        has_gap = rng.random() < 0.6
        crystals.setdefault(int(rng.integers(20)), []).append(
            candidate(
                f"{int(rng.integers(16**4)):04x}{i:02}",
                campaign=str(rng.choice(["first", "second"])),
                energy_above_hull=round(max(float(rng.uniform(-0.09, 0.3)), 0.0), 2),
                band_gap=float(rng.uniform(0, 4)) if has_gap else None,
                stage=stages[0 if has_gap else 1],
            )
        )
    for members in crystals.values():
        first, *others = sorted(members, key=attrgetter("energy_above_hull", "candidate_id"))
        for duplicate in others:
            duplicate.duplicate_of = first.candidate_id
    return list(chain.from_iterable(crystals.values()))


@pytest.mark.parametrize(
    "sort", ["energy_above_hull", "-energy_above_hull", "-band_gap", "formula"]
)
@pytest.mark.parametrize("filters", [{}, {"campaign": "first"}, {"stage": "photoanode"}])
def test_unique_returns_each_crystal_once(fill_store, monkeypatch, sort, filters):
    monkeypatch.setattr("gan_htvs.results.store.CRYSTAL_BATCH", 8)
    store = fill_store(duplicates_in_two_campaigns())
    all_candidates = store.query(sort=sort, **filters)
    lowest = {}
    for found in store.query(**filters):
        lowest.setdefault(found.duplicate_of or found.candidate_id, found.candidate_id)
    expected = [e.candidate_id for e in all_candidates if e.candidate_id in lowest.values()]
    assert len(expected) >= 15
    assert len(all_candidates) > len(expected)

    unique = {"sort": sort, "unique": True, **filters}
    assert [found.candidate_id for found in store.query(**unique)] == expected
    assert store.count(unique=True, **filters) == len(expected)
    for size in (1, 7, 30):
        pages = [store.rows(skip=k, limit=size, **unique) for k in range(0, len(expected), size)]
        assert [row["candidate_id"] for row in chain(*pages)] == expected
    partial = store.query(fields=["band_gap"], limit=5, **unique)
    gaps = {found.candidate_id: found.band_gap for found in all_candidates}
    assert [found.model_dump() for found in partial] == [
        {"band_gap": gaps[i]} for i in expected[:5]
    ]


def test_unique_applies_after_the_campaign_filter(fill_store):
    lower = candidate("b1", campaign="B", energy_above_hull=0.0)
    higher = candidate("a1", campaign="A", energy_above_hull=0.001, duplicate_of="b1")
    store = fill_store([lower, higher])
    assert ids(store.query(campaign="A", unique=True)) == "a1"
    assert ids(store.query(unique=True)) == "b1"
    assert store.count(campaign="A", unique=True) == 1


@pytest.mark.parametrize("filters", [{}, {"chemsys": "Mg-O"}, {"energy_above_hull": "0.01..0.15"}])
@pytest.mark.parametrize("sort", ["energy_above_hull", "-energy_above_hull", "formula"])
def test_limited_query_is_a_prefix_of_the_full_result(store, filters, sort):
    whole = ids(store.query(sort=sort, **filters))
    for limit in range(1, 8):
        assert ids(store.query(sort=sort, limit=limit, **filters)) == whole[:limit]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"formula": "MgO"},
        {"stage": "synthesizable"},
        {"stage": "rejected"},
        {"campaign": "first", "energy_above_hull": "..0.15"},
        {"chemsys": "Mg-O"},
    ],
)
def test_server_uses_an_index(launchpad_file, filters):
    with open_databases(launchpad_file) as databases:
        collection = databases.launchpad().db["candidates"]
        for keys in INDEXES:
            collection.create_index(keys)
        collection.insert_many([encode(candidate) for candidate in CANDIDATES])
        plan = CandidateStore(collection).explain(**filters)["queryPlanner"]["winningPlan"]
    stages = []
    while plan:
        stages.append(plan["stage"])
        plan = plan.get("inputStage")
    assert "IXSCAN" in stages
    assert "COLLSCAN" not in stages


def test_documents_are_typed_and_can_be_partial(store):
    (found,) = store.query(stage="photoanode")
    assert found.model_dump(exclude={"last_updated"}) == CANDIDATES[0].model_dump(
        exclude={"last_updated"}
    )
    assert found.structure == CANDIDATES[0].structure
    (partial,) = store.query(stage="photoanode", fields=["stage", "pourbaix", "band_gap"])
    assert partial.stage == "photoanode"
    assert partial.pourbaix == CANDIDATES[0].pourbaix
    with pytest.raises(AttributeError):
        _ = partial.structure
    with pytest.raises(UserError, match="fields: 'energy'"):
        store.query(fields=["energy"])
    assert store.get("z") is None
    assert "structure" not in store.rows()[0]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"formula": {"$ne": None}}, "^formula: "),
        ({"campaign": {"$regex": ".*"}}, "^campaign: "),
        ({"stage": {"$where": "sleep(9)"}}, "^stage: "),
        ({"energy_above_hull": {"$gt": 0}}, "^energy_above_hull: "),
        ({"energy_above_hull": ({"$gt": 0}, 1)}, "^energy_above_hull: "),
        ({"$where": "1"}, r"'\$where' is not a filter; use one of campaign, formula"),
        ({"formula": "Xyz"}, "^formula: 'Xyz'"),
        ({"formula": ""}, "^formula: "),
        ({"chemsys": "Mg-O-Mg"}, "^chemsys: "),
        ({"chemsys": "Mg-Zz"}, "^chemsys: 'Zz'"),
        ({"band_gap": "1.6"}, "^band_gap: '1.6'"),
        ({"band_gap": (3, 1)}, "^band_gap: .*3 .*1"),
        ({"band_gap": (float("nan"), 1)}, "^band_gap: "),
        ({"reference_phases": True, "proposer": "gan"}, "reference_phases and proposer"),
        ({"spacegroup": 231}, "^spacegroup: .*230"),
    ],
)
def test_invalid_filter_is_a_user_error_of_one_line(store, filters, message):
    with pytest.raises(UserError, match=message) as error:
        store.query(**filters)
    assert "\n" not in str(error.value)


def test_values_that_look_like_operators_are_literal():
    assert Filters.from_values(campaign="$where").criteria() == {"campaign": "$where"}


def test_invalid_sort_key_and_page_are_user_errors(store):
    with pytest.raises(UserError, match="sort: 'reason'"):
        store.query(sort="reason")
    with pytest.raises(UserError, match="skip and limit"):
        store.query(skip=-1)
    with pytest.raises(UserError, match="skip and limit"):
        store.rows(limit=10**20)
