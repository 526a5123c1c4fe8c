"""Databases with jobs that were queued and run by FireWorks."""

from __future__ import annotations

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
    """Return an FWorker with a worker identity; without changes a stock one."""
    fworker = FWorker(name="node", category=category)
    if changes:
        attach_worker(fworker, this_worker().model_copy(update=changes))
    return fworker


class Site:
    """A separate database on a server shared by the tests of a file."""

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
        """Run jobs in this process."""
        rapidfire(
            self.launchpad,
            by or FWorker(name="node"),
            m_dir=str(self.folder),
            nlaunches=n,
            strm_lvl="CRITICAL",
        )

    def start(self, by):
        """Check out a job without completing it."""
        return self.launchpad.checkout_fw(by, str(self.folder))

    def put(self, collection, *documents):
        key = {"outputs": "uuid", "candidates": "candidate_id"}[collection]
        with self.databases.store(collection, key=key) as store:
            store.update(list(documents))

    def status(self):
        (status,) = survey(self.databases, "mg-o").campaigns
        return status

    def problems(self):
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
    # Otherwise FireWorks searches all its modules, including its tests, for it.
    monkeypatch.setitem(SAVED_FW_MODULES, "PyTask", PyTask.__module__)
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump(server | {"name": f"test{next(NAMES)}"}))
    with open_databases(path) as databases:
        yield Site(tmp_path, databases, path)


@pytest.fixture(scope="module", autouse=True)
def _keep_server_running(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump(server | {"name": "kept"}))
    with open_databases(path):
        yield


def gate(candidate, proposer="random", uuid=None):
    """Return the output document of a gate."""
    labels = {"campaign": "mg-o", "step": "gate", "candidate_id": candidate}
    output = {"origin": {"proposer": proposer}}
    document = {"uuid": uuid or f"gate {candidate}", "metadata": labels, "output": output}
    return document | {"completed_at": hours_ago(0)}


def hours_ago(hours):
    """Return a time as jobflow stores it."""
    return (datetime.now() - timedelta(hours=hours)).isoformat()  # noqa: DTZ005


def prescreen(uuid, verdicts):
    """Return the output document of a prescreen.

    ``verdicts`` has the step at which each candidate was rejected, None for survivors.
    """
    screened = [
        {"candidate_id": candidate, "prescreen": {"rejected_at": step}}
        for candidate, step in verdicts.items()
    ]
    labels = {"campaign": "mg-o", "step": "prescreen"}
    return {"uuid": uuid, "metadata": labels, "output": {"proposals": screened}}


def selection(uuid, rejected):
    """Return the output document of a selection that rejected these candidates."""
    document = prescreen(uuid, dict.fromkeys(rejected, "duplicate after relaxation"))
    labels = {"campaign": "mg-o", "step": "select"}
    return document | {"metadata": labels, "completed_at": hours_ago(0)}


def sample(uuid, stream, requested, found):
    """Return the output document of a sampling job."""
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
