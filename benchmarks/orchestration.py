"""Measure the orchestration time of each job, in small workflows and in a single one.

    python benchmarks/orchestration.py
    python benchmarks/orchestration.py --chains 250 500 1000 2000
    python benchmarks/orchestration.py --chains 100 --launches 20 --workers 4

Chains of two trivial jobs, with one structure of 20 atoms each, are queued in workflows of at most
50 chains, as a campaign queues its candidates, and as one Flow of jobflow in a single workflow.
Then one worker launches some jobs of each in turns, and its processor time is measured: FireWorks,
jobflow, pymongo and this package, without the database, which is another process.

Only some jobs are launched, because the embedded database needs a millisecond for each stored job
to find the next one. With --workers, this number of processes then finishes the small workflows,
and the benchmark checks that every job ran once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bson
import jobflow
from chains import CAMPAIGN, chains, free_port, write_launchpad_file
from fireworks.core.rocket_launcher import rapidfire

from gan_htvs.core.stages import Step
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import submit
from launchers.launchpad.jobs import worker_of
from launchers.launchpad.units import Unit
from launchers.local.pool import WorkerPool
from launchers.monitor.recovery import Recovery

if TYPE_CHECKING:
    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad

BLOCK = 10
"""Launches of one layout in each turn."""

POLL_SECONDS = 0.5


@dataclass
class Layout:
    """Chains in workflows of one size, in a separate database.

    Parameters
    ----------
    launchpad_file
        my_launchpad.yaml of the database.
    databases
        The open databases.
    directory
        Directory of the launches.
    """

    launchpad_file: Path
    databases: Databases
    directory: Path
    seconds: float = field(default=0.0, init=False)
    """Processor time of the launches so far."""

    n_launches: int = field(default=0, init=False)

    @cached_property
    def launchpad(self) -> CampaignLaunchPad:
        """The initialized launchpad."""
        launchpad = self.databases.launchpad()
        launchpad.initialize()
        return launchpad

    def queue(self, n_chains: int, per_workflow: int) -> None:
        """Queue all chains; small workflows end with a release, as those of a campaign do."""
        with self.databases.job_store() as outputs:
            outputs.ensure_index("uuid")
        for first in range(0, n_chains, per_workflow):
            flow = chains(range(first, min(first + per_workflow, n_chains)))
            releases = CAMPAIGN.name if per_workflow < n_chains else None
            submit(self.launchpad, [Unit(flow.uuid, flow, releases=releases)], CAMPAIGN)

    def launch(self, n: int) -> None:
        """Launch ``n`` jobs as a worker does."""
        jobflow.SETTINGS.JOB_STORE = self.databases.job_store()
        start = time.process_time()
        rapidfire(
            self.launchpad,
            worker_of([CAMPAIGN.name]),
            m_dir=str(self.directory / "launches"),
            nlaunches=n,
            strm_lvl="ERROR",
        )
        self.seconds += time.process_time() - start
        self.n_launches += n

    @property
    def seconds_per_launch(self) -> float:
        """Processor time of one launch."""
        return self.seconds / self.n_launches

    @property
    def document_bytes(self) -> int:
        """Size of the largest workflow document."""
        return max(len(bson.encode(document)) for document in self.launchpad.workflows.find())

    def finish(self, n_workers: int) -> None:
        """Run the remaining jobs with several processes."""
        recovery = Recovery(self.launchpad, [CAMPAIGN.name])
        with WorkerPool(n_workers, self.launchpad_file, self.directory, [CAMPAIGN.name]) as pool:
            while self.launchpad.is_busy([CAMPAIGN.name]):
                time.sleep(POLL_SECONDS)
                pool.replace_dead(recovery)

    def job_counts(self) -> JobCounts:
        """Count jobs, outputs and launches."""
        states = Counter(job["state"] for job in self.launchpad.fireworks.find({}, {"state": 1}))
        launches = list(self.launchpad.launches.find({}, {"fworker.env.worker.pid": 1}))
        with self.databases.job_store() as outputs:
            stored = Counter(output["uuid"] for output in outputs.query({}, ["uuid"]))
        jobs = self.launchpad.fireworks.find({"spec.step": {"$ne": Step.RELEASE.value}})
        return JobCounts(
            n_jobs=states.total(),
            n_completed=states["COMPLETED"],
            n_without_output=sum(
                stored[job["spec"]["_tasks"][0]["job"]["uuid"]] != 1 for job in jobs
            ),
            n_launches=len(launches),
            n_workers=len({launch["fworker"]["env"]["worker"]["pid"] for launch in launches}),
        )


class JobCounts(NamedTuple):
    """Numbers of jobs, outputs and launches."""

    n_jobs: int
    n_completed: int
    n_without_output: int
    """Jobs without exactly one output."""

    n_launches: int
    n_workers: int
    """Processes that launched at least one job."""

    @property
    def is_complete(self) -> bool:
        """Whether each job was launched once, has completed, and has one output."""
        return self.n_jobs == self.n_completed == self.n_launches and not self.n_without_output


def main() -> None:
    """Measure both layouts, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chains", type=int, nargs="+", default=[2000])
    parser.add_argument("--per-workflow", type=int, default=50, help="chains of a small workflow")
    parser.add_argument("--launches", type=int, default=20, help="of each layout")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="finish the small workflows with this number of processes",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # Workers import the jobs from the folder of this file.
    folder, others = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, others]))

    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{options.launches} launches each: processor time of one, s / largest workflow, kB")
    print("chains  small workflows   one workflow")
    for n_chains in options.chains:
        small, one = compare(n_chains, options)
    print(
        json.dumps(
            {
                "claim": f"orchestration of {options.chains[-1]:,} chains costs at least 5 times "
                "less in small workflows than in one",
                "value": round(small, 4),
                "unit": "s of processor time for each finished job",
                "baseline": round(one, 4),
                "ratio": round(one / small, 1),
            }
        )
    )


def compare(n_chains: int, options: argparse.Namespace) -> tuple[float, float]:
    """Measure both layouts in turns; return the processor time of a launch in each, s."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        directory = Path(folder)
        for name in ("launches", "logs"):
            (directory / name).mkdir()
        port = free_port()

        def make_layout(name: str) -> Layout:
            file = write_launchpad_file(directory, name, port)
            return Layout(file, stack.enter_context(open_databases(file)), directory)

        small, one = layouts = make_layout("small"), make_layout("one")
        small.queue(n_chains, options.per_workflow)
        one.queue(n_chains, n_chains)
        kilobytes = [layout.document_bytes / 1e3 for layout in layouts]
        for start in range(0, options.launches, BLOCK):
            for layout in layouts:
                layout.launch(min(BLOCK, options.launches - start))
        cells = [
            f"{layout.seconds_per_launch:8.3f} /{size:7.1f}"
            for layout, size in zip(layouts, kilobytes, strict=True)
        ]
        print(f"{n_chains:6d}", *cells, flush=True)
        if options.workers:
            small.finish(options.workers)
            counts = small.job_counts()
            print(
                f"{options.workers} workers: {counts.n_jobs} jobs, {counts.n_completed} "
                f"completed, {counts.n_without_output} without their output, "
                f"{counts.n_launches} launches by {counts.n_workers} processes"
            )
            if not counts.is_complete:
                raise SystemExit("a job was lost, or launched more than once")
        return small.seconds_per_launch, one.seconds_per_launch


if __name__ == "__main__":
    main()
