"""A directory with a campaign and a database, as a user has it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from pymongo import MongoClient

from tests.integration.slurm import Slurm, SlurmUnavailableError

TIMEOUT = 900

SMALL_CAMPAIGN = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "compositions": ["Mg2O2"],
    "generator": {
        "max_steps": 150,
        "overrides": {
            "width": 0.25,
            "noise_dim": 32,
            "critic_steps": 1,
            "generator_learning_rate": 0.002,
            "critic_learning_rate": 0.002,
            "classifier_learning_rate": 0.002,
        },
    },
    "sampling": {"structures_per_composition": 3, "max_tries_per_structure": 500},
    "engines": {"band_gap": {"name": "none"}},
}
"""Trains a generator for seconds, and relaxes three candidates and three reference phases."""


class Site:
    """A directory with a campaign and a database, as a user has it."""

    def __init__(self, directory, launchpad_file, campaign):
        self.directory = directory
        self.launchpad_file = launchpad_file
        self.settings = yaml.safe_load(launchpad_file.read_text())
        self.campaign = campaign
        self.configure({})
        self.environment = os.environ | {"GAN_HTVS_SCRATCH": str(directory / "scratch")}

    def configure(self, changes):
        campaign = yaml.safe_dump(self.campaign | changes, sort_keys=False)
        (self.directory / "campaign.yaml").write_text(campaign)

    def command(self, *arguments):
        return [
            sys.executable,
            "-m",
            "launchers.cli.main",
            *arguments,
            "-l",
            str(self.launchpad_file),
        ]

    def start(self, workers=2):
        return subprocess.Popen(
            self.command("run", "campaign.yaml", "--workers", str(workers)),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *arguments, **environment):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def candidates(self, *options):
        return json.loads(self.call("candidates", "--format", "json", *options).stdout)

    def database(self):
        return MongoClient("127.0.0.1", self.settings["port"], serverSelectionTimeoutMS=2000)[
            self.settings["name"]
        ]

    def wait_for_outputs(self, run, n):
        """Let a run go on until ``n`` jobs have left their output."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            assert run.poll() is None, run.stdout.read()
            try:
                if self.database().outputs.count_documents({}) >= n:
                    return
            except Exception:  # noqa: BLE001 - the server is still starting
                pass
            time.sleep(0.2)
        pytest.fail(f"fewer than {n} outputs after {TIMEOUT} s")

    def leftovers(self):
        """Processes of this site that outlived it."""
        marker = str(self.directory)
        return [p for p in psutil.process_iter(["cmdline"]) if marker in str(p.info["cmdline"])]


def kill_server(storage):
    """Kill the database server that keeps its data there, as a machine that fails does."""
    server = json.loads((storage / "server.json").read_text())
    process = psutil.Process(server["pid"])
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:  # its parent may be slow to notice
            time.sleep(0.05)


@pytest.fixture
def site_of(tmp_path, launchpad_file_of_own_server):
    """Make a site from the settings of its campaign."""
    # Tests that a shell started in the background ignore Ctrl-C, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return lambda campaign: Site(tmp_path, launchpad_file_of_own_server, campaign)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory, free_port):
    """Start a private SLURM, where one is installed and may be started."""
    try:
        with Slurm(tmp_path_factory.mktemp("slurm"), free_port) as cluster:
            yield cluster
    except SlurmUnavailableError as reason:
        pytest.skip(f"no SLURM: {reason}")
