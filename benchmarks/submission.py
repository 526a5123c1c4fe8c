"""How long does it take to submit 9,300 structures? In batches, beside one workflow at a time.

    python benchmarks/submission.py

submits the search of Kim et al. for its 31 smallest compositions with 300 structures of each: 186
shards besides references, training and known phases. References and training count as done as
soon as they are queued, and the number of shards at once is not bounded, so that everything is.
Beside it, the same workflows are added one by one with FireWorks' ``add_wf``. Times are those of
this process and of the database together, since the user waits for both. Memory is measured in
processes of their own, with ten times as many structures, too. Then a shard of the largest cells is
launched, whose structures are random, and the largest document of each collection is looked for:
MongoDB refuses those over 16 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import tempfile
import time
import tracemalloc
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import bson
import jobflow
import psutil
import yaml
from chains import free_port, write_launchpad_file
from fireworks.core.rocket_launcher import launch_rocket

from gan_htvs.campaign import Campaign
from gan_htvs.proposers import ProposerName
from launchers.database import open_databases
from launchers.feeder import Feeder
from launchers.launchpad import worker_of
from launchers.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launchers.database import Databases

Result = TypeVar("Result")
UNBOUNDED = 1_000_000
"""Shards at once."""


class Cost(NamedTuple):
    """What a submission takes, in seconds."""

    processor: float
    """Of this process and of the database."""

    clock: float
    n_queued: int


class Memory(NamedTuple):
    """What a submission takes, in bytes."""

    resident: int
    """Most that the process had, with all libraries."""

    allocated: int
    """Most that Python had allocated for the shards at one time."""


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compositions", type=int, default=31)
    parser.add_argument("--structures", type=int, default=300, help="of each composition")
    parser.add_argument("--times-more", type=int, default=10, help="structures, for the memory")
    options = parser.parse_args()
    few, many = options.structures, options.times_more * options.structures

    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{options.compositions} compositions x {few} structures")
    bulk, again, single = alone(times, campaign_of(options.compositions, few))
    for name, cost in (("submit", bulk), ("submit again", again), ("one by one", single)):
        print(
            f"  {name:12s} {cost.n_queued:4d} workflows {cost.processor:7.1f} s of processor time "
            f"{cost.clock:7.1f} s"
        )
    print("memory of the submitter       all      for shards")
    for n_structures in (few, many):
        memory = alone(memory_of, campaign_of(options.compositions, n_structures))
        print(
            f"  {options.compositions} x {n_structures:4d} structures "
            f"{memory.resident / 1e6:9.0f} MB {memory.allocated / 1e6:16.1f} MB",
            flush=True,
        )
    sizes = alone(largest_documents, campaign_of(options.compositions, few))
    told = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in sizes.items())
    print(f"largest documents after the fan-out of a shard: {told}")
    print(
        json.dumps(
            {
                "claim": f"submission of {options.compositions * few:,} structures",
                "value": round(bulk.processor, 2),
                "unit": "s of processor time",
                "baseline": round(single.processor, 2),
                "ratio": round(single.processor / bulk.processor, 2),
            }
        )
    )


def campaign_of(n_compositions: int, n_structures: int) -> Campaign:
    """Make the campaign of the template, with its smallest compositions.

    Shards of 50 that are not prescreened make the most workflows and the largest documents.
    """
    template = resources.files("launchers.templates") / "mg-mn-o.yaml"
    whole = Campaign.model_validate(yaml.safe_load(template.read_text()))
    smallest = sorted(whole.target_counts, key=lambda counts: (sum(counts), counts))
    formulas = [whole.chemical_system.formula(counts) for counts in smallest[:n_compositions]]
    sampling = whole.sampling.model_copy(
        update={"structures_per_composition": n_structures, "shard_size": 50}
    )
    changes = {"compositions": formulas, "sampling": sampling, "prescreen": None}
    return whole.model_copy(update=changes)


def alone(work: Callable[[Campaign], Result], campaign: Campaign) -> Result:
    """Do the work in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=be_quiet) as pool:
        return pool.submit(work, campaign).result()


def be_quiet() -> None:
    """Leave the output to the table."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def times(campaign: Campaign) -> tuple[Cost, Cost, Cost]:
    """Submit a campaign, submit it again, and add its workflows one by one to another database."""
    with databases_of("warm", "bulk", "single") as ((warm, bulk, single), server):
        submit(campaign_of(1, 1), warm)  # so that the first one does not pay for the others
        return (
            timed(lambda: submit(campaign, bulk), server),
            timed(lambda: submit(campaign, bulk), server),
            timed(lambda: submit(campaign, single, one_by_one=True), server),
        )


def memory_of(campaign: Campaign) -> Memory:
    """Submit a campaign and tell the memory."""
    with databases_of("memory") as ((databases,), _):
        submit(campaign_of(1, 1), databases)  # references and libraries take more than shards do
        tracemalloc.start()
        submit(campaign, databases)
        _, allocated = tracemalloc.get_traced_memory()
    return Memory(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, allocated)


def largest_documents(campaign: Campaign) -> dict[str, int]:
    """Submit a campaign, launch its last shard, and give the size of the largest documents."""
    sampling = campaign.sampling.model_copy(update={"proposers": (ProposerName.RANDOM,)})
    campaign = campaign.model_copy(update={"sampling": sampling})
    with databases_of("documents") as ((databases,), _):
        submit(campaign, databases)
        launchpad = databases.launchpad()
        jobflow.SETTINGS.JOB_STORE = databases.job_store()
        last = max(launchpad.get_fw_ids({"name": {"$regex": "^sample"}}))
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            launch_rocket(launchpad, worker_of([campaign.name]), fw_id=last, strm_lvl="ERROR")
        return {
            name: max(len(bson.encode(each)) for each in launchpad.db[name].find())
            for name in ("workflows", "fireworks", "launches", "outputs")
        }


@contextlib.contextmanager
def databases_of(*names: str) -> Iterator[tuple[list[Databases], psutil.Process]]:
    """Give empty databases of one embedded server, and the server."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        port = free_port()
        files = [write_launchpad_file(Path(folder), name, port) for name in names]
        databases = [stack.enter_context(open_databases(file)) for file in files]
        server = json.loads((Path(folder) / "database" / "server.json").read_text())
        yield databases, psutil.Process(server["pid"])


def submit(campaign: Campaign, databases: Databases, *, one_by_one: bool = False) -> int:
    """Queue a whole campaign, and return the number of workflows."""
    register(campaign, databases, shards_at_once=UNBOUNDED)
    feeder = Feeder(campaign, databases)
    launchpad = feeder.launchpad
    launchpad.initialise()
    if one_by_one:
        launchpad.bulk_add_wfs = lambda workflows: [launchpad.add_wf(each) for each in workflows]
    n_queued = feeder.feed()
    stored = [{"uuid": uuid, "index": 1, "output": None} for uuid in feeder.units.shared]
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update(stored)
    return n_queued + feeder.feed()


def timed(work: Callable[[], int], server: psutil.Process) -> Cost:
    """Time what queues workflows."""

    def processor() -> float:
        times = server.cpu_times()
        return time.process_time() + times.user + times.system

    before, start = processor(), time.monotonic()
    n_queued = work()
    return Cost(processor() - before, time.monotonic() - start, n_queued)


if __name__ == "__main__":
    main()
