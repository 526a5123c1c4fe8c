from __future__ import annotations

from types import SimpleNamespace

import pytest
from maggma.stores import MemoryStore

from launchers import summary

CAMPAIGN = SimpleNamespace(name="mixed")


def shard(uuid: str, *, stream: str = "", **output) -> dict:
    """Make the stored output of one sampling job."""
    counted = {"requested": 2, "tried": 2, "rejections": {}, "exhausted": False}
    found = [{"candidate_id": str(i)} for i in range(output.pop("found", 2))]
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mixed", "step": "propose"},
        "output": counted
        | {"stream": stream or uuid, "composition": "MgMn2O4", "proposals": found}
        | output,
    }


@pytest.fixture
def told(capsys):
    def tell(*shards: dict) -> list[str]:
        store = MemoryStore(key="uuid")
        store.connect()
        store.update(list(shards), key="uuid")
        store.close = lambda: None  # a store in memory forgets everything when it is closed
        databases = SimpleNamespace(store=lambda name, key: store)
        summary._print_sampling(CAMPAIGN, databases)
        return capsys.readouterr().out.splitlines()

    return tell


def test_one_proposer_is_not_named(told):
    rejections = {"duplicate": 1, "wrong_composition": 4}
    (line,) = told(shard("a", proposer="gan", tried=7, rejections=rejections))
    assert line == (
        "Sampling: 7 raw samples, rejected before any physics: 4 wrong_composition, 1 duplicate"
    )


def test_several_proposers_are_counted_apart(told):
    lines = told(
        shard("a", proposer="gan", tried=7, rejections={"duplicate": 5}),
        shard("b", proposer="random"),
        shard("c", proposer="random", tried=3, rejections={"atoms_too_close": 1}),
    )
    assert lines == [
        "Sampling by gan: 7 raw samples, rejected before any physics: 5 duplicate",
        "Sampling by random: 5 raw samples, rejected before any physics: 1 atoms_too_close",
    ]


def test_a_lengthened_shard_counts_once(told):
    short = shard("a", proposer="random", stream="s", tried=2)
    longer = shard("b", proposer="random", stream="s", tried=4, requested=4, found=4)
    assert told(longer, short) == [
        "Sampling: 4 raw samples, rejected before any physics: none",
    ]


@pytest.mark.parametrize(
    ("proposer", "exhausted", "advice"),
    [
        ("gan", False, "train longer or raise sampling.max_tries_per_structure"),
        ("random", False, "by random; raise sampling.max_tries_per_structure"),
        ("substitution", True, "substitution has no more"),
    ],
)
def test_who_gave_up_is_told_what_helps(told, proposer, exhausted, advice):
    lines = told(shard("a", proposer=proposer, exhausted=exhausted, found=1))
    assert lines[1].startswith("note MgMn2O4: 1 of 2 structures after 2 samples")
    assert lines[1].endswith(f"{advice}.")
