"""Databases with jobs that FireWorks itself has queued, run and seen fail."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import yaml
from fireworks import Firework, FWorker, PyTask, Workflow
from fireworks.core.rocket_launcher import rapidfire
from fireworks.utilities.fw_serializers import SAVED_FW_MODULES
from typer.testing import CliRunner

from gan_htvs.campaign.model import Campaign
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.launchpad.workers import attach_worker, this_worker
from launchers.monitor.status import campaign_findings
from launchers.monitor.status.survey import survey

CAMPAIGN = Campaign.model_validate(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 2, "O": 2}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "sampling": {"proposers": ["random"], "structures_per_composition": 6},
    }
)
"""MgO and Mg2O2: twelve structures."""

REFERENCES = "references-uuid"
NAMES = count()
HOURS_AGO = datetime.now(UTC) - timedelta(hours=5)

SUCCEEDS = {"func": "operator.add", "args": [1, 2]}
RAISES = {"func": "math.sqrt", "args": [-1]}


def firework(step, task=SUCCEEDS, *, owner="mg-o", parents=(), **spec):
    spec |= {"campaign": owner, "step": step}
    return Firework(PyTask(task), spec=spec, name=step, parents=list(parents))


def worker(category="", **changes):
    """Make an FWorker as those of ours are, or a stock one."""
    made = FWorker(name="node", category=category)
    if changes:
        attach_worker(made, this_worker().model_copy(update=changes))
    return made


class Site:
    """A database of its own on a server that the tests of this file share."""

    def __init__(self, folder, databases, launchpad_file):
        self.folder, self.databases, self.file = folder, databases, launchpad_file
        self.launchpad = databases.launchpad()
        self.launchpad.initialize()

    def register(self, campaign=CAMPAIGN, **submission):
        submission |= {"owners": [campaign.name, REFERENCES], "submitted_on": datetime.now(UTC)}
        settings = campaign.model_dump(mode="json")
        document = {"name": campaign.name, "settings": settings, "submission": submission}
        with self.databases.store("campaigns", key="name") as campaigns:
            campaigns.update([document])

    def queue(self, *fireworks):
        metadata = {"campaign": fireworks[0].spec["campaign"]}
        self.launchpad.add_wf(Workflow(list(fireworks), metadata=metadata))

    def run(self, n=1, by=None):
        """Let a worker of this process run jobs."""
        rapidfire(
            self.launchpad,
            by or FWorker(name="node"),
            m_dir=str(self.folder),
            nlaunches=n,
            strm_lvl="CRITICAL",
        )

    def start(self, by):
        """Have a job taken by a worker that does not end it."""
        return self.launchpad.checkout_fw(by, str(self.folder))

    def put(self, collection, *documents):
        key = {"outputs": "uuid", "candidates": "candidate_id"}[collection]
        with self.databases.store(collection, key=key) as store:
            store.update(list(documents))

    def status(self):
        (found,) = survey(self.databases, "mg-o").campaigns
        return found

    def found(self):
        return [finding.what for finding in self.status().findings]

    def call(self, *arguments):
        return CliRunner().invoke(app, ["status", *arguments, "-l", str(self.file)])


@pytest.fixture(scope="module")
def server(tmp_path_factory, free_port):
    settings = {"host": "127.0.0.1", "port": free_port(), "user_indices": ["spec.campaign"]}
    settings["embedded_storage"] = str(tmp_path_factory.mktemp("server") / "database")
    return settings


@pytest.fixture
def site(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign_findings, "LOCK_SECONDS", 0)
    # Or FireWorks would look for it in all that it has, its tests included.
    monkeypatch.setitem(SAVED_FW_MODULES, "PyTask", PyTask.__module__)
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump(server | {"name": f"test{next(NAMES)}"}))
    with open_databases(path) as databases:
        yield Site(tmp_path, databases, path)


@pytest.fixture(scope="module", autouse=True)
def _kept_running(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump(server | {"name": "kept"}))
    with open_databases(path):
        yield


def gate(candidate, proposer="random", uuid=None):
    """Make what a gate leaves."""
    labels = {"campaign": "mg-o", "step": "gate", "candidate_id": candidate}
    output = {"origin": {"proposer": proposer}}
    made = {"uuid": uuid or f"gate {candidate}", "metadata": labels, "output": output}
    return made | {"completed_at": hours_ago(0)}


def hours_ago(hours):
    """Write a time as jobflow does."""
    return (datetime.now() - timedelta(hours=hours)).isoformat()  # noqa: DTZ005


def prescreen(uuid, verdicts):
    """Make what a prescreen leaves: by candidate, where it was rejected; None: it survived."""
    counts = Counter(step or "survived" for step in verdicts.values())
    screened = [
        {"verdict": {"candidate_id": candidate, "rejected_at": step}}
        for candidate, step in verdicts.items()
    ]
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mg-o", "step": "prescreen"},
        "output": {"screened": screened, "counts": dict(counts)},
    }


def selection(uuid, rejected):
    """Make what a selection leaves that rejected these candidates."""
    output = {"survivors": [], "rejected": [{"candidate_id": each} for each in rejected]}
    labels = {"campaign": "mg-o", "step": "select"}
    return {"uuid": uuid, "metadata": labels, "output": output, "completed_at": hours_ago(0)}


def sample(uuid, stream, requested, found):
    """Make what a sampling job leaves."""
    output = {
        "stream": stream,
        "requested": requested,
        "tried": requested,
        "proposals": [{"candidate_id": "x"}] * found,
    }
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mg-o", "step": "propose"},
        "output": output,
    }
