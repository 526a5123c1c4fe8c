"""Counts of the rounds of sampling."""

from __future__ import annotations

from gan_htvs.core.stages import Step
from gan_htvs.results.rounds import RoundCounts, count_rounds, read_rounds
from tests.helpers import memory_store, mg_o

SAMPLING = {"proposers": ["gan"], "structures_per_composition": 7}
CAMPAIGN = mg_o(sampling=SAMPLING, generator={"rounds": 3})


def row(name, number, *, is_novel=True, rejected_at=None, duplicate_of=None):
    return {
        "candidate_id": name,
        "origin": {"round": number},
        "prescreen": {"rejected_at": rejected_at},
        "novelty": {"is_novel": is_novel},
        "duplicate_of": duplicate_of,
    }


ROWS = [
    row("phase", None),
    row("known", 1, is_novel=False),
    row("higher", 1, duplicate_of="lower"),
    row("rejected", 1, is_novel=None, rejected_at="hull window"),
    row("lower", 2),
    row("new", 2),
    row("again", 3, duplicate_of="new"),
]


def training(store, uuid, **output):
    labels = {"step": Step.TRAIN.value, "campaign": CAMPAIGN.name}
    store.update({"uuid": uuid, "metadata": labels, "output": output})


def test_crystals_are_new_in_the_round_that_found_them_first():
    assert count_rounds(ROWS, {1: 19, 2: 20}) == [
        RoundCounts(1, 19, 3, 2, 1),
        RoundCounts(2, 20, 2, 2, 1),
        RoundCounts(3, None, 1, 1, 0),
    ]


def test_new_crystals_are_unknown_without_the_first_training_set():
    rows = [row("a", 1, is_novel=None), row("b", 2)]
    assert [one.n_new for one in count_rounds(rows, {})] == [None, 1]


def test_end_of_the_rounds_and_sizes_of_training_sets_are_read():
    store = memory_store().docs_store
    store.connect()
    training(store, "1", sha256="aa", dataset={"structures": 19})
    second = {"round": 2, "first": "aa", "dataset": {"structures": 25}}
    training(store, "2", sha256="bb", stopped=None, **second)
    rounds = read_rounds(store, CAMPAIGN, ROWS)
    assert (rounds.stopped, rounds.n_skipped) == (None, 0)
    assert [one.n_training for one in rounds.counts] == [19, 25, None]
    third = {"round": 3, "first": "aa", "dataset": {"structures": 25}}
    training(store, "3", sha256="bb", stopped="round 2 added nothing", **third)
    stopped = read_rounds(store, CAMPAIGN, ROWS)
    assert "round 3 of 3" in stopped.stopped
    assert "round 2 added nothing" in stopped.stopped
    assert stopped.n_skipped == 2
    assert read_rounds(store, mg_o(), ROWS).counts == []
