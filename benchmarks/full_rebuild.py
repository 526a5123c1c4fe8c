"""Time a full rebuild of 10,000 evaluated candidates, and builds with few or no new outputs.

    python benchmarks/full_rebuild.py
    python benchmarks/full_rebuild.py --candidates 300 --profile

Synthetic proposals and verdicts of charge-balanced Mg-Mn-O compositions are written to an embedded
database. A third of the structures are distinct random crystals; the others are variants of them in
other cells, so that duplicates must be found. The builders then build all candidates, run again
without new outputs, and run again with one new verdict. Times are processor times of the builders
and the database server together. The baseline is a full rebuild after every change, which would
need no record of the inputs of a document.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import pstats
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from deduplication import random_structure, variant
from monty.json import jsanitize
from stability import OXIDATION_STATES, SYSTEM, references
from submission import Meter, databases_of

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import Assessment, Origin, Proposal, RelaxedStructure, Verdict
from gan_htvs.core.stages import ProposerName, Step
from gan_htvs.structures.declash import declash
from launchers.launchpad.builders import build_candidates, ensure_indexes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil
    from pymongo.collection import Collection

    from launchers.launchpad.database import Databases

CAMPAIGN = Campaign(
    name="rebuild", chemical_system=SYSTEM.model_dump(), oxidation_states=OXIDATION_STATES
)
REFERENCES = references()
COMPOSITIONS = [*SYSTEM.compositions(OXIDATION_STATES, max_atoms=12)]
VARIANTS = 3
"""Candidates of each crystal."""
BATCH = 100
"""Proposals of one job, and documents inserted at a time."""


def main() -> None:
    """Fill the database, time the builds, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="Time a full rebuild of the candidates.")
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true", help="print the slowest functions")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with databases_of("rebuild") as ((databases,), server):
        with databases.store("campaigns", key="name") as campaigns:
            settings = CAMPAIGN.model_dump(mode="json")
            campaigns.update([{"name": CAMPAIGN.name, "settings": settings}])
        ensure_indexes(databases)
        outputs = databases.launchpad().db["outputs"]
        fill(outputs, options.candidates)
        with cProfile.Profile() if options.profile else nullcontext() as profile:
            full, n_changed = timed_build(databases, server, "all candidates")
        unchanged, n_unchanged = timed_build(databases, server, "no new output")
        outputs.insert_one(job("new verdict", Step.GATE, next(verdicts_of(0, 1)), index=2))
        one, _ = timed_build(databases, server, "one new verdict")
    if (n_changed, n_unchanged) != (options.candidates, 0):
        raise SystemExit("a candidate was not built, or was built twice")
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    print(
        json.dumps(
            {
                "claim": f"a build with one new verdict among {options.candidates:,} candidates, "
                f"against a full rebuild; without new outputs: {unchanged:.1f} s",
                "value": round(one, 1),
                "unit": "s of processor time",
                "baseline": round(full, 1),
                "ratio": round(full / one, 1),
            }
        )
    )


def timed_build(databases: Databases, server: psutil.Process, what: str) -> tuple[float, int]:
    """Build the candidates; return the processor time, s, and the number of changed documents."""
    builders, total = Meter(), Meter(server)
    with total(), builders():
        n_changed = build_candidates(databases)
    print(
        f"{what:16} {total.processor:8.1f} s of processor time, {builders.processor:8.1f} s of it "
        f"without the database, {n_changed:6,} documents changed",
        flush=True,
    )
    return total.processor, n_changed


def fill(outputs: Collection[dict[str, Any]], n: int) -> None:
    """Write references, proposals and verdicts."""
    outputs.insert_one(job("references", Step.REFERENCES, REFERENCES))
    for first in range(0, n, BATCH):
        verdicts = [*verdicts_of(first, min(first + BATCH, n))]
        proposals = [
            Proposal(candidate_id=v.candidate_id, structure=v.structure, origin=v.origin)
            for v in verdicts
        ]
        jobs = [job(f"propose {first}", Step.PROPOSE, {"proposals": proposals})]
        jobs += [job(f"verdict {v.candidate_id}", Step.GATE, v) for v in verdicts]
        outputs.insert_many(jobs)


def job(uuid: str, step: Step, output: Any, index: int = 1) -> dict[str, Any]:
    """Return the stored document of a job."""
    metadata = {"campaign": CAMPAIGN.name, "step": step.value}
    if isinstance(output, Verdict):
        metadata["candidate_id"] = output.candidate_id
    return {
        "uuid": uuid,
        "index": index,
        "completed_at": f"2026-01-0{index}T00:00:00",
        "metadata": metadata,
        "output": jsanitize(output, strict=True, enum_values=True),
    }


def verdicts_of(first: int, end: int) -> Iterator[Verdict]:
    """Yield verdicts of crystals and their variants, 0 to 0.3 eV/atom above the hull."""
    rng = np.random.default_rng(first)
    counts = [COMPOSITIONS[i % len(COMPOSITIONS)] for i in range(first, end, VARIANTS)]
    symbols = [np.repeat(SYSTEM.elements, numbers).tolist() for numbers in counts]
    crystals = declash([random_structure(names, rng) for names in symbols]).structures
    for i in range(first, end):
        which, number = divmod(i - first, VARIANTS)
        structure = variant(crystals[which], rng) if number else crystals[which]
        formula = SYSTEM.formula(counts[which])
        hull_energy = REFERENCES.hull_energy(formula)
        above_hull = float(rng.gamma(2, 0.05))
        yield Verdict(
            candidate_id=f"{i:016x}",
            origin=Origin(proposer=ProposerName.RANDOM, requested_composition=formula, index=i),
            structure=structure,
            relaxed=RelaxedStructure(
                structure=structure,
                energy_per_atom=hull_energy + above_hull,
                level_of_theory=REFERENCES.level_of_theory,
                converged=True,
            ),
            assessment=Assessment(
                formation_energy_per_atom=-2.0,
                decomposition_energy=above_hull,
                reference_decomposition_energy=above_hull,
                decomposes_to={},
            ),
            stage="synthesizable",
            references=REFERENCES.content_hash,
        )


if __name__ == "__main__":
    main()
