"""Measure what a finished job costs its worker besides the job, in small workflows and in one.

    python benchmarks/orchestration.py
    python benchmarks/orchestration.py --chains 250 500 1000 2000
    python benchmarks/orchestration.py --chains 100 --launches 20 --workers 4

Chains of two trivial jobs, with one structure of 20 atoms each, are queued in workflows of at most
50 chains, as a campaign queues its candidates, and as one Flow of jobflow in a single workflow.
Then one worker launches some jobs of each in turns, and its processor time is counted: FireWorks,
jobflow, pymongo and this package, without the database, which is another process.

The embedded database takes a millisecond for each job in it to find the next one, which is why not
all are launched. With --workers, as many processes then finish the workflows of the campaign, and
every job is accounted for.
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
"""Launches of one layout before it is the turn of the next."""

POLL_SECONDS = 0.5


@dataclass
class Layout:
    """Chains in workflows of a certain size, in a database of their own.

    Parameters
    ----------
    launchpad_file
        Names the database.
    databases
        The same, open.
    directory
        Where jobs are launched.
    """

    launchpad_file: Path
    databases: Databases
    directory: Path
    seconds: float = field(default=0.0, init=False)
    """Processor time of the launches so far."""

    n_launches: int = field(default=0, init=False)

    @cached_property
    def launchpad(self) -> CampaignLaunchPad:
        """The queue, ready for use."""
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
        """Launch some jobs as a worker does."""
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
        """Launch the rest with several processes."""
        recovery = Recovery(self.launchpad, [CAMPAIGN.name])
        with WorkerPool(n_workers, self.launchpad_file, self.directory, [CAMPAIGN.name]) as pool:
            while self.launchpad.is_busy([CAMPAIGN.name]):
                time.sleep(POLL_SECONDS)
                pool.replace_dead(recovery)

    def account(self) -> Account:
        """Tell what became of all jobs."""
        states = Counter(job["state"] for job in self.launchpad.fireworks.find({}, {"state": 1}))
        launches = list(self.launchpad.launches.find({}, {"fworker.env.worker.pid": 1}))
        with self.databases.job_store() as outputs:
            stored = Counter(each["uuid"] for each in outputs.query({}, ["uuid"]))
        jobs = self.launchpad.fireworks.find({"spec.step": {"$ne": Step.RELEASE.value}})
        return Account(
            n_jobs=states.total(),
            n_completed=states["COMPLETED"],
            n_without_output=sum(
                stored[job["spec"]["_tasks"][0]["job"]["uuid"]] != 1 for job in jobs
            ),
            n_launches=len(launches),
            n_workers=len({each["fworker"]["env"]["worker"]["pid"] for each in launches}),
        )


class Account(NamedTuple):
    """What became of the jobs."""

    n_jobs: int
    n_completed: int
    n_without_output: int
    """Or with several."""

    n_launches: int
    n_workers: int
    """Processes that have launched any."""

    @property
    def nothing_lost_or_doubled(self) -> bool:
        """Whether each job was launched once, and has ended and left its output."""
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
        "--workers", type=int, default=0, help="finish the small workflows with these"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # Workers import the jobs from beside this file.
    here, others = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, others]))

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
    """Measure both layouts in turns; return what a launch costs in each."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        directory = Path(folder)
        for name in ("launches", "logs"):
            (directory / name).mkdir()
        port = free_port()

        def layout(name: str) -> Layout:
            file = write_launchpad_file(directory, name, port)
            return Layout(file, stack.enter_context(open_databases(file)), directory)

        small, one = layouts = layout("small"), layout("one")
        small.queue(n_chains, options.per_workflow)
        one.queue(n_chains, n_chains)
        kilobytes = [each.document_bytes / 1e3 for each in layouts]
        for start in range(0, options.launches, BLOCK):
            for each in layouts:
                each.launch(min(BLOCK, options.launches - start))
        cells = [
            f"{each.seconds_per_launch:8.3f} /{size:7.1f}"
            for each, size in zip(layouts, kilobytes, strict=True)
        ]
        print(f"{n_chains:6d}", *cells, flush=True)
        if options.workers:
            small.finish(options.workers)
            account = small.account()
            print(
                f"{options.workers} workers: {account.n_jobs} jobs, {account.n_completed} "
                f"completed, {account.n_without_output} without their output, "
                f"{account.n_launches} launches by {account.n_workers} processes"
            )
            if not account.nothing_lost_or_doubled:
                raise SystemExit("a job was lost, or launched more than once")
        return small.seconds_per_launch, one.seconds_per_launch


if __name__ == "__main__":
    main()
