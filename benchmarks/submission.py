"""Measure the submission of a campaign, in bulk and one workflow at a time.

    python benchmarks/submission.py

submits the search of Kim et al. for its 6 smallest compositions with 100 structures of each, both
stages: references, training and the compositions; then the workflows that evaluate the selected
structures, and one for the reference phases. It takes three minutes; ``--compositions 31
--structures 300`` is the published search. The benchmark writes the outputs that the second stage
needs; every structure is selected, as without a prescreen, and the number of workflows in the
database is unlimited. The baseline adds the same workflows one by one with FireWorks' ``add_wf``.
Times are the sum of this process and the database, because the user waits for both. Memory is
measured in separate processes, also with five times as many structures. Finally, one composition
of the largest cells is sampled at random and selected, and the size of the largest document of each
collection is printed: MongoDB refuses documents over 16 MB.
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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import bson
import jobflow
import numpy as np
import psutil
import yaml
from chains import free_port, write_launchpad_file
from fireworks.core.rocket_launcher import launch_rocket
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from flows.campaign import compositions_of
from flows.proposals import as_proposal
from gan_htvs.campaign.compositions import CompositionSettings
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.stages import ProposerName
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import Feeder
from launchers.launchpad.jobs import worker_of
from launchers.launchpad.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from launchers.launchpad.database import Databases
    from launchers.launchpad.units import CampaignUnits

Result = TypeVar("Result")
UNBOUNDED = 1_000_000
"""Workflows at once."""

VOLUME_PER_ATOM = 11.0
"""Volume per atom of the selected structures, A^3."""


class Cost(NamedTuple):
    """Times of a submission, s."""

    processor: float
    """Processor time of this process and of the database."""

    clock: float
    n_queued: int


class Memory(NamedTuple):
    """Memory of a submission, bytes."""

    resident: int
    """Largest resident size of the process, with all libraries."""

    allocated: int
    """Peak of the memory that Python allocates to queue the workflows."""


class Meter:
    """Measures the total time, and optionally the peak memory, of its contexts."""

    def __init__(self, server: psutil.Process | None = None, *, traces: bool = False) -> None:
        self.server = server
        self.traces = traces
        self.processor = self.clock = 0.0
        self.allocated = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Measure the time and memory of a context."""
        if self.traces:
            tracemalloc.start()
        before, start = self._processor(), time.monotonic()
        yield
        self.processor += self._processor() - before
        self.clock += time.monotonic() - start
        if self.traces:
            self.allocated = max(self.allocated, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    def _processor(self) -> float:
        """Return the processor time of this process and of the server, s."""
        times = self.server and self.server.cpu_times()
        return time.process_time() + (times.user + times.system if times else 0.0)


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compositions", type=int, default=6)
    parser.add_argument("--structures", type=int, default=100, help="of each composition")
    parser.add_argument("--times-more", type=int, default=5, help="structures, for the memory")
    options = parser.parse_args()
    few, many = options.structures, options.times_more * options.structures

    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{options.compositions} compositions x {few} structures")
    bulk, repeated, single = in_own_process(times, campaign_of(options.compositions, few))
    for name, cost in (("submit", bulk), ("submit again", repeated), ("one by one", single)):
        print(
            f"  {name:12s} {cost.n_queued:4d} workflows {cost.processor:7.1f} s of processor time "
            f"{cost.clock:7.1f} s"
        )
    print("memory of the submitter          all   to queue workflows")
    allocated = {}
    for n_structures in (few, many):
        memory = in_own_process(memory_of, campaign_of(options.compositions, n_structures))
        allocated[n_structures] = memory.allocated / 1e6
        print(
            f"  {options.compositions} x {n_structures:4d} structures "
            f"{memory.resident / 1e6:9.0f} MB {memory.allocated / 1e6:14.1f} MB",
            flush=True,
        )
    sizes = in_own_process(largest_documents, campaign_of(options.compositions, few))
    listed = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in sizes.items())
    print(f"largest documents of a composition: {listed}")
    print(
        json.dumps(
            {
                "claim": f"memory to queue {options.compositions * many:,} structures, against "
                f"{options.compositions * few:,}",
                "value": round(allocated[many], 1),
                "unit": "MB",
                "baseline": round(allocated[few], 1),
                "ratio": round(allocated[many] / allocated[few], 2),
            }
        )
    )


def campaign_of(n_compositions: int, n_structures: int) -> Campaign:
    """Return the campaign of the template with its smallest compositions.

    Without a prescreen, the workflows are most numerous and the documents largest.
    """
    template = resources.files("launchers.cli") / "templates" / "mg-mn-o.yaml"
    campaign = Campaign.model_validate(yaml.safe_load(template.read_text()))
    smallest = sorted(campaign.target_counts, key=lambda counts: (sum(counts), counts))
    cells = [
        CompositionSettings(
            formula=campaign.chemical_system.formula(counts), atoms_per_cell=(sum(counts),)
        )
        for counts in smallest[:n_compositions]
    ]
    sampling = campaign.sampling.model_copy(update={"structures_per_composition": n_structures})
    changes = {"compositions": tuple(cells), "sampling": sampling, "prescreen": None}
    return campaign.model_copy(update=changes)


def in_own_process(work: Callable[[Campaign], Result], campaign: Campaign) -> Result:
    """Run a function in a new process and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=be_quiet) as pool:
        return pool.submit(work, campaign).result()


def be_quiet() -> None:
    """Suppress warnings and log messages."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def times(campaign: Campaign) -> tuple[Cost, Cost, Cost]:
    """Submit a campaign, submit it again, and add its workflows one by one to another database."""
    with databases_of("warm", "bulk", "single") as ((warm, bulk, single), server):
        submit(campaign_of(1, 1), warm)  # import libraries before the measurement
        return (
            cost(campaign, bulk, server),
            cost(campaign, bulk, server),
            cost(campaign, single, server, one_by_one=True),
        )


def cost(
    campaign: Campaign, databases: Databases, server: psutil.Process, *, one_by_one: bool = False
) -> Cost:
    """Measure the time of a submission."""
    meter = Meter(server)
    n_queued = submit(campaign, databases, meter, one_by_one=one_by_one)
    return Cost(meter.processor, meter.clock, n_queued)


def memory_of(campaign: Campaign) -> Memory:
    """Measure the memory of a submission."""
    with databases_of("memory") as ((databases,), _):
        submit(
            campaign_of(1, 1), databases
        )  # libraries and references need more memory than workflows
        meter = Meter(traces=True)
        submit(campaign, databases, meter)
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Memory(resident, meter.allocated)


def largest_documents(campaign: Campaign) -> dict[str, int]:
    """Sample and select the last composition; return the size of the largest documents, bytes."""
    sampling = campaign.sampling.model_copy(update={"proposers": (ProposerName.RANDOM,)})
    campaign = campaign.model_copy(
        update={"sampling": sampling, "compositions": campaign.compositions[-1:]}
    )
    with databases_of("documents") as ((databases,), _):
        register(campaign, databases, workflows_at_once=UNBOUNDED)
        feeder = Feeder(campaign, databases)
        feeder.launchpad.initialize()
        write_outputs(shared_outputs(feeder.units), databases)
        feeder.feed()
        jobflow.SETTINGS.JOB_STORE = databases.job_store()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for name in ("^sample", "^select"):
                (job,) = feeder.launchpad.get_fw_ids({"name": {"$regex": name}})
                worker = worker_of([campaign.name])
                launch_rocket(feeder.launchpad, worker, fw_id=job, strm_lvl="ERROR")
        feeder.feed()
        return {
            name: max(len(bson.encode(document)) for document in feeder.launchpad.db[name].find())
            for name in ("workflows", "fireworks", "launches", "outputs")
        }


@contextlib.contextmanager
def databases_of(*names: str) -> Iterator[tuple[list[Databases], psutil.Process]]:
    """Yield empty databases of one embedded server, and the process of the server."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        port = free_port()
        files = [write_launchpad_file(Path(folder), name, port) for name in names]
        databases = [stack.enter_context(open_databases(file)) for file in files]
        server = json.loads((Path(folder) / "database" / "server.json").read_text())
        yield databases, psutil.Process(server["pid"])


def submit(
    campaign: Campaign,
    databases: Databases,
    meter: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    *,
    one_by_one: bool = False,
) -> int:
    """Queue a whole campaign, and return the number of workflows.

    Parameters
    ----------
    campaign, databases
        The campaign, and where it is queued.
    meter
        Context that measures the queueing of workflows, which has three parts.
    one_by_one
        Whether each workflow is added with ``add_wf``.
    """
    register(campaign, databases, workflows_at_once=UNBOUNDED)
    feeder = Feeder(campaign, databases)
    launchpad = feeder.launchpad
    launchpad.initialize()
    if one_by_one:
        launchpad.bulk_add_wfs = lambda workflows: list(map(launchpad.add_wf, workflows))
    with meter():
        n_queued = feeder.feed()
    write_outputs(shared_outputs(feeder.units), databases)
    with meter():
        n_queued += feeder.feed()
    write_outputs(selections(feeder.units), databases)
    with meter():
        n_queued += feeder.feed()
    return n_queued


def write_outputs(outputs: Iterator[tuple[str, Any]], databases: Databases) -> None:
    """Store outputs of jobs by their uuids."""
    with databases.store("outputs", key="uuid") as store:
        for uuid, output in outputs:
            store.update([{"uuid": uuid, "index": 1, "output": output}])


def shared_outputs(units: CampaignUnits) -> Iterator[tuple[str, Any]]:
    """Yield relaxed reference phases, and None for outputs that the feeder does not read."""
    relaxed = {
        phase.name: RelaxedStructure(
            structure=phase.structure,
            energy_per_atom=-5.0 - number / 10,  # phases of equal energy may be merged
            level_of_theory=units.flows.level_of_theory,
            converged=True,
        )
        for number, phase in enumerate(phases_of(units.campaign))
        if phase.pinned_energy_per_atom is None
    }
    yield units.flows.relaxed_references.uuid, as_stored(relaxed)
    for uuid in units.shared:
        yield uuid, None


def selections(units: CampaignUnits) -> Iterator[tuple[str, Any]]:
    """Yield a selection of all structures for each composition."""
    rng = np.random.default_rng(0)
    for composition, uuid in zip(compositions_of(units.campaign), units.compositions, strict=True):
        symbols = [
            symbol
            for symbol, count in zip(
                units.campaign.chemical_system.elements,
                units.campaign.chemical_system.counts(composition),
                strict=True,
            )
            for _ in range(count)
        ]
        cell = Lattice.cubic((VOLUME_PER_ATOM * len(symbols)) ** (1 / 3))
        structure = Structure(cell, symbols, rng.random((len(symbols), 3)))
        survivor = as_stored(as_proposal(structure))
        survivors = [
            copy_survivor(survivor, f"{composition}-{number}", rng)
            for number in range(units.campaign.sampling.structures_per_composition)
        ]
        yield uuid, {"proposals": survivors}


def as_stored(output: Any) -> Any:
    """Return an output in the format in which jobflow stores it."""
    return jsanitize(output, strict=True, enum_values=True, allow_bson=True)


def copy_survivor(survivor: dict[str, Any], name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return a stored survivor with another id and one atom at another position."""
    first, *other_sites = survivor["structure"]["sites"]
    sites = [first | {"abc": rng.random(3).tolist()}, *other_sites]
    return survivor | {
        "structure": survivor["structure"] | {"sites": sites},
        "candidate_id": name,
    }


if __name__ == "__main__":
    main()
