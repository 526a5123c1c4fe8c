"""A directory with a campaign and a database, as a user has it."""

from __future__ import annotations

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

TIMEOUT = 900


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
        return [sys.executable, "-m", "launchers.cli", *arguments, "-l", str(self.launchpad_file)]

    def start(self):
        return subprocess.Popen(
            self.command("run", "campaign.yaml", "--workers", "2"),
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


@pytest.fixture
def site_of(tmp_path, launchpad_file_of_own_server):
    """Make a site from the settings of its campaign."""
    # Tests that a shell started in the background ignore Ctrl-C, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return lambda campaign: Site(tmp_path, launchpad_file_of_own_server, campaign)
