"""Builders on a real server, with concurrent gates and several ways to run them."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

import pytest

from gan_htvs.core.stages import Stage
from gan_htvs.results.store import CandidateStore
from launchers.launchpad.builders import build_candidates
from launchers.launchpad.database import open_databases

from .conftest import Laboratory, rocksalt, zincblende

IDS = [f"c{i:02d}" for i in range(12)]
COLLECTIONS = {
    "outputs": "uuid",
    "campaigns": "name",
    "candidates": "candidate_id",
}


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        yield databases


@pytest.fixture
def lab(databases):
    lab = Laboratory({name: databases.store(name, key=key) for name, key in COLLECTIONS.items()})
    lab.propose(*IDS)
    return lab


def store_gate(lab, number):
    crystal = (rocksalt, zincblende)[number % 2]
    lab.gate(IDS[number], 0.005 * number + 0.001, structure=crystal(a=4.3 + 0.01 * number))


def contents(lab):
    """Return all candidate documents without times and versions."""
    volatile = ("_id", "last_updated", "builder_meta")
    return [
        {key: value for key, value in document.items() if key not in volatile}
        for document in lab.candidates.query(sort={"candidate_id": 1})
    ]


def test_new_gates_change_their_candidates_and_duplicates(lab, databases):
    assert build_candidates(databases) == len(IDS)
    for number in (0, 1, 3):
        store_gate(lab, number)
    assert build_candidates(databases) == 3
    assert build_candidates(databases) == 0
    store_gate(lab, 2)  # a duplicate of 0, whose document lists it
    assert build_candidates(databases) == 2
    store = CandidateStore(lab.candidates)
    assert store.get(IDS[0]).duplicates == [IDS[2]]
    assert store.get(IDS[2]).duplicate_of == IDS[0]
    assert {c.candidate_id for c in store.query(stage=Stage.GENERATED)} == set(IDS[4:])


def test_concurrent_builders_and_gates_give_the_same_documents(lab, databases):
    all_stored = Event()

    def store_gates():
        for number in range(len(IDS)):
            store_gate(lab, number)
        all_stored.set()

    def build():
        while not all_stored.is_set():
            build_candidates(databases)

    threads = [Thread(target=work) for work in (store_gates, build, build)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    build_candidates(databases)
    concurrent = contents(lab)

    lab.candidates.remove_docs({})
    assert build_candidates(databases) == len(IDS)
    assert contents(lab) == concurrent
    assert len(concurrent) == len(IDS)


def test_parallel_builds_and_mrun_give_the_same_documents(lab, databases, launchpad_file):
    for number in range(len(IDS)):
        store_gate(lab, number)
    build_candidates(databases)
    serial = contents(lab)

    lab.candidates.remove_docs({})
    assert build_candidates(databases, n_workers=2) == len(IDS)
    assert contents(lab) == serial

    lab.candidates.remove_docs({})
    mrun = Path(sysconfig.get_path("scripts")) / "mrun"
    script = find_spec("launchers.launchpad.mrun").origin
    subprocess.run(
        [str(mrun), "-n", "2", "--no_bars", script],
        env=os.environ | {"GAN_HTVS_LAUNCHPAD": str(launchpad_file)},
        check=True,
        timeout=300,
        capture_output=True,
    )
    assert contents(lab) == serial
