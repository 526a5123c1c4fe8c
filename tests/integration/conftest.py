"""Campaigns in the directory of a user, a database server, and SLURM."""

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
from typer.testing import CliRunner

from launchers.cli.main import app
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
"""Trains a generator for a few seconds, and relaxes three candidates and three reference phases."""


class Site:
    """A directory with a campaign and its database, and the commands that a user runs there."""

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

    def invoke(self, *arguments):
        """Run a command in this process, which saves the import of all packages."""
        with contextlib.chdir(self.directory):
            return CliRunner().invoke(app, [*arguments, "-l", str(self.launchpad_file)])

    def candidates(self, *options):
        return json.loads(self.invoke("candidates", "--format", "json", *options).stdout)

    def database(self):
        return MongoClient("127.0.0.1", self.settings["port"], serverSelectionTimeoutMS=2000)[
            self.settings["name"]
        ]

    def wait_for_outputs(self, run, n):
        """Wait until ``n`` jobs of a run have stored their output."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            assert run.poll() is None, run.stdout.read()
            try:
                if self.database().outputs.count_documents({}) >= n:
                    return
            except Exception:  # noqa: BLE001 - the server may still be starting
                pass
            time.sleep(0.2)
        pytest.fail(f"fewer than {n} outputs after {TIMEOUT} s")

    def leftovers(self):
        """Return the processes of this site that still run."""
        marker = str(self.directory)
        return [p for p in psutil.process_iter(["cmdline"]) if marker in str(p.info["cmdline"])]


def kill_server(storage):
    """Kill the database server with this storage, as in a machine failure."""
    server = json.loads((storage / "server.json").read_text())
    process = psutil.Process(server["pid"])
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:  # until its parent collects it
            time.sleep(0.05)


@pytest.fixture
def site_of(tmp_path, launchpad_file_of_own_server):
    """Return a function that creates a site from the settings of a campaign."""
    # Background processes of a shell ignore Ctrl-C, and their children inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return lambda campaign: Site(tmp_path, launchpad_file_of_own_server, campaign)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory, free_port):
    """Private SLURM cluster; tests are skipped if SLURM is not installed or does not start."""
    try:
        with Slurm(tmp_path_factory.mktemp("slurm"), free_port) as cluster:
            yield cluster
    except SlurmUnavailableError as reason:
        pytest.skip(f"no SLURM: {reason}")
