"""A campaign on a private SLURM with FireWorks' qlaunch and the failures of a cluster."""

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
ID = re.compile("c[0-9a-f]{15}")
ENERGY = re.compile(r"\d+\.\d+")
WORKERS = 2
"""Workers in one batch job of the cpu partition."""


class Cluster(Site):
    """A directory on a login node with a campaign and its queue files."""

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

    def call_successfully(self, *arguments):
        """Run a command of gan-htvs that must succeed, and return its output."""
        result = self.call(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def write_queues(self):
        """Write the queue files; workers poll every second, and gpu jobs end after a minute."""
        queues = ("--queue", "cpu", "gpu=gpu", "--cores", str(WORKERS), "gpu=1")
        folders = ("--scratch", "scratch", "--workdir", "runs")
        self.call_successfully("queue", "init", "--scheduler", "slurm", *queues, *folders)
        for category in ("cpu", "gpu"):
            self.edit(
                category, rocket_launch=("--sleep 30 --max_loops 20", "--sleep 1 --max_loops 90")
            )
        self.edit("gpu", walltime="00:01:00")

    def edit(self, category, **changes):
        """Set values of a queue adapter; a pair (old, new) replaces a part of a value."""
        path = self.queues / category / "my_qadapter.yaml"
        adapter = yaml.safe_load(path.read_text())
        for key, change in changes.items():
            adapter[key] = adapter[key].replace(*change) if isinstance(change, tuple) else change
        path.write_text(yaml.safe_dump(adapter))

    def qlaunch(self, category, *options):
        """Submit one batch job with FireWorks' qlaunch, and return its id."""
        before = self.slurm.jobs(category)
        program = Path(sys.executable).with_name("qlaunch")
        files = ("-l", self.launchpad_file, "--launch_dir", self.directory / "runs")
        command = ("rapidfire", "--nlaunches", "1")
        result = subprocess.run(
            [program, "-c", self.queues / category, *files, *options, *command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        submitted = self.slurm.jobs(category).keys() - before.keys()
        assert len(submitted) == 1, result.stdout + result.stderr
        return submitted.pop()

    def running(self, category):
        """Return the running launches of a category by id."""
        jobs = self.database().fireworks.find({"state": "RUNNING", "spec._category": category})
        last = {"launch_id": {"$in": [max(job["launches"]) for job in jobs]}}
        return {launch["launch_id"]: launch for launch in self.database().launches.find(last)}

    def suspend_workers(self, category, *, begun=lambda folder: True):
        """Suspend all workers (at least one) that run jobs, and return their processes."""
        suspended = {}
        deadline = time.monotonic() + TIMEOUT
        while not suspended or not suspended.keys() >= self.running(category).keys():
            assert time.monotonic() < deadline, self.job_states_and_errors()
            time.sleep(0.05)
            for launch_id, launch in self.running(category).items():
                if launch_id in suspended or not begun(Path(launch["launch_dir"])):
                    continue
                worker = psutil.Process(launch["fworker"]["env"]["worker"]["pid"])
                worker.suspend()
                is_updated = self.database().workflows.find_one({"locked": {"$exists": True}})
                if is_updated or launch_id not in self.running(category):
                    worker.resume()
                else:
                    suspended[launch_id] = worker
        return list(suspended.values())

    def lost_runs(self):
        """Return the jobs with state RUNNING whose workers have ended."""
        jobs = self.database().fireworks.find({"state": "RUNNING"})
        last = {max(job["launches"]): job["fw_id"] for job in jobs}
        launches = self.database().launches.find({"launch_id": {"$in": list(last)}})
        workers = {
            last[launch["launch_id"]]: launch["fworker"]["env"]["worker"] for launch in launches
        }
        return [fw_id for fw_id, worker in workers.items() if not is_alive(worker["pid"])]

    def recover(self):
        """Run `gan-htvs recover`."""
        self.n_lost.update(self.lost_runs())
        self.recovered += self.call_successfully("recover")

    def finish(self):
        """Submit batch jobs until all jobs have finished."""
        deadline = time.monotonic() + TIMEOUT
        active = {"state": {"$in": ["READY", "RESERVED", "RUNNING", "WAITING"]}}
        jobs = self.database().fireworks
        while jobs.find_one(active):
            assert time.monotonic() < deadline, self.job_states_and_errors()
            for category in ("gpu", "cpu"):
                ready = jobs.find_one({"state": "READY", "spec._category": category})
                if ready and not self.slurm.jobs(category):
                    with suppress(AssertionError):  # another worker took the job
                        self.qlaunch(category)
            if self.lost_runs():
                self.recover()
            time.sleep(0.5)

    def n_runs(self):
        """Return how often each job has run."""
        runs = self.database().launches.find({"state_history.state": "RUNNING"})
        return Counter(launch["fw_id"] for launch in runs)

    def job_states_and_errors(self):
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
    """Directory of a campaign on a cluster, with a running database server."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    server = EmbeddedServer(tmp_path / "server", port=free_port())
    with server.serving():
        yield Cluster(directory, slurm, server)


def cancel_pending_batch_job(cluster):
    """Reserve a job for a batch job in a closed partition, and cancel the batch job."""
    cluster.slurm.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    cluster.edit("cpu", rocket_launch=(f"multi {WORKERS}", "singleshot"))
    waiting = cluster.qlaunch("cpu", "--reserve")
    assert cluster.slurm.state(waiting) == "PENDING"
    cluster.slurm.call("scancel", waiting)
    cluster.edit("cpu", rocket_launch=("singleshot", f"multi {WORKERS}"))
    cluster.slurm.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    return waiting


def cancel_running_batch_job(cluster):
    cancelled = cluster.qlaunch("cpu")
    workers = cluster.suspend_workers("cpu")
    cluster.slurm.call("scancel", cancelled)
    cluster.slurm.wait_until(lambda: cancelled not in cluster.slurm.jobs(), "job ends", TIMEOUT)
    cluster.slurm.wait_until(lambda: not any_alive(workers), "workers end", TIMEOUT)
    assert cluster.slurm.state(cancelled) == "CANCELLED"
    return cancelled


def kill_a_worker_and_the_database(cluster, serving):
    """Kill a worker and the database while others work, and restart the database."""
    killed, *others = cluster.suspend_workers("cpu")
    kill_server(cluster.server.storage)
    killed.kill()
    serving.enter_context(cluster.server.serving())
    for worker in others:
        worker.resume()
    return killed.pid


def test_interrupted_campaign_gives_the_results_of_an_undisturbed_one(cluster, site_of):
    undisturbed = site_of(SMALL_CAMPAIGN)
    run = undisturbed.start(workers=1)
    cluster.write_queues()
    cluster.call_successfully("submit", "campaign.yaml")

    # The training is suspended after some steps until its batch job reaches the walltime.
    endless = cluster.qlaunch("gpu")
    workers = cluster.suspend_workers("gpu", begun=lambda folder: (folder / "curves.csv").exists())
    waiting = cancel_pending_batch_job(cluster)
    cancelled = cancel_running_batch_job(cluster)
    cluster.slurm.wait_until(lambda: endless not in cluster.slurm.jobs(), "walltime", TIMEOUT)
    cluster.slurm.wait_until(lambda: not any_alive(workers), "workers end", TIMEOUT)
    assert cluster.slurm.state(endless) == "TIMEOUT"
    # The training resumes from its state, or starts again if there is none; the weights are equal.
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
        assert states == {"COMPLETED"}, cluster.job_states_and_errors()
        n_runs = cluster.n_runs()
        assert n_runs == {fw_id: 1 + cluster.n_lost[fw_id] for fw_id in n_runs}
        uuids = [output["uuid"] for output in cluster.database().outputs.find({}, {"uuid": 1})]
        assert len(set(uuids)) == len(uuids)

        output, _ = run.communicate(timeout=TIMEOUT)
        assert run.returncode == 0, output
        weights, verdicts, energies = results(cluster)
        expected_weights, expected_verdicts, expected_energies = results(undisturbed)
        assert weights.keys() == expected_weights.keys()
        assert all(value.equal(expected_weights[name]) for name, value in weights.items())
        assert verdicts == expected_verdicts
        has_no_duplicates = all(len(names) == 1 for names in energies)
        assert energies == pytest.approx(expected_energies, abs=1e-6 if has_no_duplicates else 0.01)


def without_numbers(reason):
    return ENERGY.sub("...", ID.sub("another", reason or ""))


def results(site):
    """Return weights, verdicts of each crystal, and its energy above the hull, eV/atom.

    Among duplicates the candidate that is stored first is kept, which may differ between runs; its
    energy may change the hull and with it numbers in reasons.
    """
    with open_databases(site.launchpad_file) as databases:
        build_candidates(databases)
        with databases.job_store() as outputs:
            trained = outputs.query_one({"output.sha256": {"$exists": True}}, load=True)["output"]
        with databases.store("candidates", key="candidate_id") as candidates:
            documents = {document["candidate_id"]: document for document in candidates.query()}
    crystals = defaultdict(list)
    for name, candidate in documents.items():
        crystals[(candidate["prescreen"] or {}).get("duplicate_of") or name].append(name)
    verdicts, energies = {}, {}
    for kept, names in crystals.items():
        members = [documents[name] for name in names]
        verdicts[frozenset(names)] = (
            sorted((member["stage"], without_numbers(member["reason"])) for member in members),
            # The hash of the checkpoint depends on the duration of the training.
            {member["candidate_id"]: member["origin"] | {"checkpoint": None} for member in members},
        )
        energies[frozenset(names)] = documents[kept]["energy_above_hull"]
    return load(base64.b64decode(trained["weights"])), verdicts, energies
