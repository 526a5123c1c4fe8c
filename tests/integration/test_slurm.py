"""A campaign on a real SLURM, driven by FireWorks' own qlaunch through all that happens there."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load

from launchers.launchpad.builders import build_candidates
from launchers.launchpad.database import open_databases
from launchers.launchpad.embedded import EmbeddedServer
from tests.conftest import write_launchpad
from tests.integration.conftest import SMALL_CAMPAIGN, Site, kill_server

TIMEOUT = 300
ID = re.compile("[0-9a-f]{16}")
ENERGY = re.compile(r"\d+\.\d+")
WORKERS = 2
"""That share a batch job of the cpu partition."""


class Cluster(Site):
    """A directory on a login node: a campaign, the files of its queues, a database elsewhere."""

    def __init__(self, directory, slurm, server):
        launchpad_file = write_launchpad(directory, port=server.port, name="gan_htvs_test")
        super().__init__(directory, launchpad_file, SMALL_CAMPAIGN)
        self.slurm = slurm
        self.server = server
        self.queues = directory / "queue"
        self.environment |= slurm.environment
        self.environment["FW_CONFIG_FILE"] = str(self.queues / "FW_config.yaml")
        self.n_lost = Counter()
        self.recovered = ""

    def tell(self, *arguments):
        """Give a command that succeeds, and return what it says."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write_queues(self):
        """Render the files; workers look for jobs every second, and gpu jobs end after a minute."""
        queues = ("--queue", "cpu", "gpu=gpu", "--cores", str(WORKERS), "gpu=1")
        folders = ("--scratch", "scratch", "--workdir", "runs")
        self.tell("queue", "init", "--scheduler", "slurm", *queues, *folders)
        for category in ("cpu", "gpu"):
            self.edit(
                category, rocket_launch=("--sleep 30 --max_loops 20", "--sleep 1 --max_loops 90")
            )
        self.edit("gpu", walltime="00:01:00")

    def edit(self, category, **changes):
        """Change values of a queue adapter, or a part of them."""
        path = self.queues / category / "my_qadapter.yaml"
        adapter = yaml.safe_load(path.read_text())
        for key, change in changes.items():
            adapter[key] = adapter[key].replace(*change) if isinstance(change, tuple) else change
        path.write_text(yaml.safe_dump(adapter))

    def qlaunch(self, category, *options):
        """Have FireWorks submit one batch job, and return its id."""
        before = self.slurm.jobs(category)
        program = Path(sys.executable).with_name("qlaunch")
        where = ("-l", self.launchpad_file, "--launch_dir", self.directory / "runs")
        how = ("rapidfire", "--nlaunches", "1")
        done = subprocess.run(
            [program, "-c", self.queues / category, *where, *options, *how],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        submitted = self.slurm.jobs(category).keys() - before.keys()
        assert len(submitted) == 1, done.stdout + done.stderr
        return submitted.pop()

    def running(self, category):
        """Launches of the jobs of a category that run now, by id."""
        jobs = self.database().fireworks.find({"state": "RUNNING", "spec._category": category})
        last = {"launch_id": {"$in": [max(job["launches"]) for job in jobs]}}
        return {each["launch_id"]: each for each in self.database().launches.find(last)}

    def hold(self, category, *, begun=lambda folder: True):
        """Stop all workers that run jobs, at least one, in their tracks and in mid-work."""
        held = {}
        deadline = time.monotonic() + TIMEOUT
        while not held or not held.keys() >= self.running(category).keys():
            assert time.monotonic() < deadline, self.what_happened()
            time.sleep(0.05)
            for launch_id, launch in self.running(category).items():
                if launch_id in held or not begun(Path(launch["launch_dir"])):
                    continue
                worker = psutil.Process(launch["fworker"]["env"]["worker"]["pid"])
                worker.suspend()
                is_updated = self.database().workflows.find_one({"locked": {"$exists": True}})
                if is_updated or launch_id not in self.running(category):
                    worker.resume()
                else:
                    held[launch_id] = worker
        return list(held.values())

    def dead_runs(self):
        """Jobs that count as running though their workers are gone."""
        jobs = self.database().fireworks.find({"state": "RUNNING"})
        last = {max(job["launches"]): job["fw_id"] for job in jobs}
        launches = self.database().launches.find({"launch_id": {"$in": list(last)}})
        workers = {last[each["launch_id"]]: each["fworker"]["env"]["worker"] for each in launches}
        return [fw_id for fw_id, worker in workers.items() if not is_alive(worker["pid"])]

    def recover(self):
        """Take up what was lost."""
        self.n_lost.update(self.dead_runs())
        self.recovered += self.tell("recover")

    def finish(self):
        """Submit batch jobs where there is work for one, until there is none at all."""
        deadline = time.monotonic() + TIMEOUT
        active = {"state": {"$in": ["READY", "RESERVED", "RUNNING", "WAITING"]}}
        jobs = self.database().fireworks
        while jobs.find_one(active):
            assert time.monotonic() < deadline, self.what_happened()
            for category in ("gpu", "cpu"):
                ready = jobs.find_one({"state": "READY", "spec._category": category})
                if ready and not self.slurm.jobs(category):
                    with suppress(AssertionError):  # a worker that was about to end took it
                        self.qlaunch(category)
            if self.dead_runs():
                self.recover()
            time.sleep(0.5)

    def n_runs(self):
        """How often each job has run."""
        runs = self.database().launches.find({"state_history.state": "RUNNING"})
        return Counter(launch["fw_id"] for launch in runs)

    def what_happened(self):
        output = [path.read_text() for path in self.directory.glob("runs/block_*/*/*.error")]
        states = [(job["name"], job["state"]) for job in self.database().fireworks.find()]
        return "\n".join([*map(str, states), *output])


def is_alive(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def any_alive(workers):
    return any(is_alive(worker.pid) for worker in workers)


@pytest.fixture
def cluster(slurm, tmp_path, free_port):
    """Have a campaign's directory on a cluster, and a database server that runs."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    server = EmbeddedServer(tmp_path / "server", port=free_port())
    with server.serving():
        yield Cluster(directory, slurm, server)


def cancel_while_it_waits(cluster):
    """Reserve a job for a batch job in a closed partition, and cancel that."""
    cluster.slurm.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    cluster.edit("cpu", rocket_launch=(f"multi {WORKERS}", "singleshot"))
    waiting = cluster.qlaunch("cpu", "--reserve")
    assert cluster.slurm.state(waiting) == "PENDING"
    cluster.slurm.call("scancel", waiting)
    cluster.edit("cpu", rocket_launch=("singleshot", f"multi {WORKERS}"))
    cluster.slurm.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    return waiting


def cancel_while_it_runs(cluster):
    cancelled = cluster.qlaunch("cpu")
    workers = cluster.hold("cpu")
    cluster.slurm.call("scancel", cancelled)
    cluster.slurm.wait_until(lambda: cancelled not in cluster.slurm.jobs(), "job ends", TIMEOUT)
    cluster.slurm.wait_until(lambda: not any_alive(workers), "workers end", TIMEOUT)
    assert cluster.slurm.state(cancelled) == "CANCELLED"
    return cancelled


def kill_a_worker_and_the_database(cluster, serving):
    """Kill both with -9 while others work, and start the database again."""
    killed, *others = cluster.hold("cpu")
    kill_server(cluster.server.storage)
    killed.kill()
    serving.enter_context(cluster.server.serving())
    for worker in others:
        worker.resume()
    return killed.pid


def test_a_campaign_ends_as_if_nothing_had_happened(cluster, site_of):
    undisturbed = site_of(SMALL_CAMPAIGN)
    run = undisturbed.start(workers=1)
    cluster.write_queues()
    cluster.tell("submit", "campaign.yaml")

    # The training hangs after some steps, until its batch job reaches the walltime.
    endless = cluster.qlaunch("gpu")
    workers = cluster.hold("gpu", begun=lambda folder: (folder / "curves.csv").exists())
    waiting = cancel_while_it_waits(cluster)
    cancelled = cancel_while_it_runs(cluster)
    cluster.slurm.wait_until(lambda: endless not in cluster.slurm.jobs(), "walltime", TIMEOUT)
    cluster.slurm.wait_until(lambda: not any_alive(workers), "workers end", TIMEOUT)
    assert cluster.slurm.state(endless) == "TIMEOUT"
    # Stopped after its first steps it goes on from its state, before them from the beginning; the
    # weights are the same.
    cluster.recover()

    cluster.edit("gpu", walltime="01:00:00")
    cluster.qlaunch("gpu")
    cluster.qlaunch("cpu")
    with ExitStack() as serving:
        killed = kill_a_worker_and_the_database(cluster, serving)
        cluster.recover()
        cluster.finish()
        assert f"batch job {waiting} is gone from the queue" in cluster.recovered
        assert f"slurm job {cancelled} is gone" in cluster.recovered
        assert f"slurm job {endless} is gone" in cluster.recovered
        assert f"process {killed} on" in cluster.recovered

        states = {job["state"] for job in cluster.database().fireworks.find()}
        assert states == {"COMPLETED"}, cluster.what_happened()
        n_runs = cluster.n_runs()
        assert n_runs == {fw_id: 1 + cluster.n_lost[fw_id] for fw_id in n_runs}
        uuids = [output["uuid"] for output in cluster.database().outputs.find({}, {"uuid": 1})]
        assert len(set(uuids)) == len(uuids)

        told, _ = run.communicate(timeout=TIMEOUT)
        assert run.returncode == 0, told
        weights, fates, energies = results(cluster)
        expected_weights, expected_fates, expected_energies = results(undisturbed)
        assert weights.keys() == expected_weights.keys()
        assert all(value.equal(expected_weights[name]) for name, value in weights.items())
        assert fates == expected_fates
        same = all(len(names) == 1 for names in energies)
        assert energies == pytest.approx(expected_energies, abs=1e-6 if same else 0.01)


def without_numbers(reason):
    return ENERGY.sub("...", ID.sub("another", reason or ""))


def results(site):
    """Weights, what became of each crystal, and their energies above the hull in eV/atom.

    Of candidates that relax to one crystal the one that is stored first is kept, which a run that
    nobody disturbs need not share; it may lower the hull, and with it change numbers in reasons.
    """
    with open_databases(site.launchpad_file) as databases:
        build_candidates(databases)
        with databases.job_store() as outputs:
            trained = outputs.query_one({"output.sha256": {"$exists": True}}, load=True)["output"]
        with databases.store("candidates", key="candidate_id") as candidates:
            found = {each["candidate_id"]: each for each in candidates.query()}
    crystals = defaultdict(list)
    for name, candidate in found.items():
        crystals[(candidate["prescreen"] or {}).get("duplicate_of") or name].append(name)
    fates, energies = {}, {}
    for kept, names in crystals.items():
        members = [found[name] for name in names]
        fates[frozenset(names)] = (
            sorted((each["stage"], without_numbers(each["reason"])) for each in members),
            # The checkpoint knows how long its training took.
            {each["candidate_id"]: each["origin"] | {"checkpoint": None} for each in members},
        )
        energies[frozenset(names)] = found[kept]["energy_above_hull"]
    return load(base64.b64decode(trained["weights"])), fates, energies
