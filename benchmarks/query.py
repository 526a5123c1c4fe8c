"""Time queries of 100,000 candidates in a database.

    python benchmarks/query.py
    python benchmarks/query.py --uri mongodb://localhost:27017   # your own server

Synthetic candidates of 45 chemical systems, with structures, are inserted into a new database,
which is dropped in the end. :class:`gan_htvs.results.store.CandidateStore` then returns the first
page of each query, 50 rows, and the count. The baseline reads all summaries, to filter and sort in
Python.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from chains import free_port
from pymatgen.core import Lattice, Structure
from pymongo import MongoClient

from gan_htvs.core.candidate import Candidate, Origin
from gan_htvs.core.document import encode
from gan_htvs.core.stages import Stage
from gan_htvs.results.store import INDEXES, SUMMARY_FIELDS, CandidateStore
from launchers.launchpad.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.collection import Collection

METALS = ("Mg", "Mn", "Ca", "Ti", "V", "Fe", "Co", "Ni", "Zn", "Sr")
PAGE = 50
REPEATS = 5
CHUNK = 5000
NOVEL = 0.7

QUERIES: dict[str, dict[str, Any]] = {
    "the most stable": {},
    "the least stable": {"sort": "-energy_above_hull"},
    "within 0.08 eV/atom of the hull, gap 1.6 to 3.0 eV": {
        "energy_above_hull": (None, 0.08),
        "band_gap": (1.6, 3.0),
    },
    "novel ones of a campaign within 0.05 eV/atom": {
        "campaign": "benchmark",
        "energy_above_hull": (None, 0.05),
        "is_novel": True,
    },
    "the eleventh page of a system": {"chemsys": "Mg-Mn-O", "skip": 500},
    "one formula": {"formula": "MgMnO3"},
    "stable ones of a system, by gap": {
        "chemsys": "Mg-Mn-O",
        "stage": "band_gap_computed",
        "sort": "-band_gap",
    },
    "photoanodes": {"stage": "photoanode"},
    "aqueous stability": {"pourbaix_min": (None, 0.1), "sort": "pourbaix_min"},
}

UNINDEXED: dict[str, dict[str, Any]] = {
    "all by formula": {"sort": "formula"},
    "a space group without candidates": {"spacegroup": 230},
}
"""Queries without an index in the embedded server; they are not part of the claim."""


def main() -> None:
    """Fill the database, time the queries, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--uri", help="MongoDB server (default: an embedded server)")
    args = parser.parse_args()
    with ExitStack() as stack:
        uri = args.uri or f"mongodb://127.0.0.1:{serve(stack)}"
        client: MongoClient[Any] = stack.enter_context(MongoClient(uri))
        database = f"benchmark_{uuid.uuid4().hex}"
        stack.callback(client.drop_database, database)
        collection = client[database]["candidates"]
        began = time.monotonic()
        for chunk in synthetic(args.candidates):
            collection.insert_many(chunk, ordered=False)
        print(f"{collection.estimated_document_count():,} candidates, "
              f"inserted in {time.monotonic() - began:.0f} s")  # fmt: skip
        baseline = timed(lambda: list(collection.find({}, dict.fromkeys(SUMMARY_FIELDS, 1))), 1)
        began = time.monotonic()
        collection.create_index("candidate_id", unique=True)  # as in the builder
        for keys in INDEXES:
            collection.create_index(keys)
        print(f"indexes made in {time.monotonic() - began:.0f} s; "
              f"all summaries read in {baseline:.1f} s")  # fmt: skip
        print(f"{'':52} {'found':>7} {'page':>8} {'count':>8}  plan")
        pages = []
        for name, filters in QUERIES.items():
            pages.append(timed_page(collection, filters))
            seconds, n_found = timed_count(collection, filters)
            print(f"{name:52} {n_found:7,} {pages[-1]:7.3f}s {seconds:7.3f}s  "
                  f"{plan(collection, filters)}", flush=True)  # fmt: skip
        one = timed(lambda: CandidateStore(collection).get(f"{args.candidates // 2:016x}"), REPEATS)
        print(f"one candidate by its id: {one:.3f} s")
        for name, filters in UNINDEXED.items():
            print(f"{name:52} {'':7} {timed_page(collection, filters, 1):7.3f}s", flush=True)
    value = max(pages)
    claim = {
        "claim": f"slowest of {len(QUERIES)} pages of {PAGE} rows among {args.candidates:,} "
        "candidates, against reading all summaries",
        "value": round(value, 4),
        "unit": "s",
        "baseline": round(baseline, 3),
        "ratio": round(baseline / value, 1),
    }
    print(json.dumps(claim))


def serve(stack: ExitStack) -> int:
    """Start an embedded server and return its port."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = EmbeddedServer(folder, port=free_port())
    stack.enter_context(server.serving())
    return server.port


STAGES = {
    Stage.GENERATED.value: 0.1,
    "metastable": 0.4,
    "synthesizable": 0.1,
    "band_gap_computed": 0.02,
    "photoanode": 0.003,
    Stage.REJECTED.value: 0.327,
    Stage.FAILED.value: 0.05,
}
"""Share of candidates by stage."""


def synthetic(number: int) -> Iterator[list[dict[str, Any]]]:
    """Yield documents of candidates in chunks, with the stages of a typical funnel."""
    rng = np.random.default_rng(0)
    systems = [template(*pair) for pair in combinations(sorted(METALS), 2)]
    for first in range(0, number, CHUNK):
        yield [document(i, systems, rng) for i in range(first, min(first + CHUNK, number))]


def document(i: int, systems: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Return the document of one candidate."""
    stage = rng.choice(list(STAGES), p=list(STAGES.values()))
    has_gap = stage in ("band_gap_computed", "photoanode")
    return systems[rng.integers(len(systems))] | {
        "candidate_id": f"{i:016x}",
        "stage": str(stage),
        "energy_above_hull": None if stage == Stage.GENERATED else float(rng.gamma(2, 0.15)),
        "band_gap": float(rng.uniform(0, 5)) if has_gap else None,
        "pourbaix": {"minimum": float(rng.uniform(0, 0.5))} if has_gap else None,
        "novelty": {"is_novel": bool(rng.random() < NOVEL)},
    }


def template(first: str, second: str) -> dict[str, Any]:
    """Return the document of a structure of ten atoms."""
    rng = np.random.default_rng(1)
    symbols = [first, first, second, second, *["O"] * 6]
    structure = Structure(Lattice.orthorhombic(4, 5, 6), symbols, rng.random((10, 3)))
    candidate = Candidate(
        candidate_id="",
        campaign="benchmark",
        stage=Stage.GENERATED,
        origin=Origin(proposer="gan", requested_composition="A2B2O6", index=0),
        formula_pretty=structure.composition.reduced_formula,
        chemsys=structure.composition.chemical_system,
        nsites=len(structure),
        generated_structure=structure,
        structure=structure,
        last_updated=datetime.now(UTC),
    )
    return encode(candidate)


def timed_page(
    collection: Collection[dict[str, Any]], filters: dict[str, Any], repeats: int = REPEATS
) -> float:
    """Return the time of the first page of a query, s."""
    return timed(lambda: CandidateStore(collection).rows(limit=PAGE, **filters), repeats)


def timed_count(
    collection: Collection[dict[str, Any]], filters: dict[str, Any]
) -> tuple[float, int]:
    """Return the time to count the matches of a query, s, and their number."""
    plain = {key: value for key, value in filters.items() if key not in ("sort", "skip")}
    began = time.perf_counter()
    n_found = CandidateStore(collection).count(**plain)
    return time.perf_counter() - began, n_found


def timed(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a function, s."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def plan(collection: Collection[dict[str, Any]], filters: dict[str, Any]) -> str:
    """Return the stages of the query plan of the server, if it reports one."""
    try:
        plain = {key: value for key, value in filters.items() if key != "skip"}
        stage = CandidateStore(collection).explain(**plain)["queryPlanner"]["winningPlan"]
    except Exception as error:  # noqa: BLE001 - a server without plans
        return f"not reported: {str(error)[:40]}"
    names = []
    while stage:
        names.append(stage.get("indexName") or stage.get("stage", "?"))
        stage = stage.get("inputStage")
    return " < ".join(names)


if __name__ == "__main__":
    main()
