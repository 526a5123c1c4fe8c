"""What is told of a campaign, of jobs that FireWorks itself has queued, run and seen fail."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest
import yaml
from fireworks import Firework, FWorker, PyTask, Workflow
from fireworks.core.rocket_launcher import rapidfire
from fireworks.utilities.fw_serializers import SAVED_FW_MODULES
from typer.testing import CliRunner

from gan_htvs.campaign import Campaign
from gan_htvs.funnel import measure_funnel
from launchers.cli import app
from launchers.database import open_databases
from launchers.status import obstacles, table
from launchers.status.document import CampaignStatus, JobCount, Throughput
from launchers.status.survey import survey
from launchers.workers import describe, this_worker

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
        describe(made, this_worker().model_copy(update=changes))
    return made


class Site:
    """A database of its own on a server that the tests of this file share."""

    def __init__(self, folder, databases, launchpad_file):
        self.folder, self.databases, self.file = folder, databases, launchpad_file
        self.launchpad = databases.launchpad()
        self.launchpad.initialise()

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
        return [obstacle.found for obstacle in self.status().obstacles]

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
    monkeypatch.setattr(obstacles, "LOCK_SECONDS", 0)
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
    return {"uuid": uuid or f"gate {candidate}", "metadata": labels, "output": output}


def shard(uuid, stream, requested, found):
    output = {
        "stream": stream,
        "requested": requested,
        "proposals": [{"candidate_id": "x"}] * found,
    }
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mg-o", "step": "propose"},
        "output": output,
    }


def test_jobs_are_counted_by_step_state_and_category_and_failures_by_their_reason(site):
    site.register()
    for _ in range(2):
        site.queue(firework("relax", RAISES, _category="cpu"))
    first = firework("propose", _category="gpu")
    site.queue(first, firework("relax", _category="cpu", parents=[first]))
    site.queue(firework("references", RAISES, owner=REFERENCES))
    site.queue(firework("relax", owner="another"))
    site.run(2)
    site.run(1, by=FWorker(name="node", category="gpu"))
    found = site.status()
    counts = {(job.step, job.category, job.state): job.n for job in found.jobs}
    assert counts == {
        ("relax", "cpu", "FIZZLED"): 2,
        ("propose", "gpu", "COMPLETED"): 1,
        ("relax", "cpu", "READY"): 1,
        ("references", None, "READY"): 1,
    }
    (failure,) = found.failures
    assert (failure.kind, failure.step, failure.n) == ("job", "relax", 2)
    assert failure.reason == "ValueError: math domain error"
    assert str(site.folder) in failure.example
    assert [span.n_jobs for span in found.throughput] == [1, 1, 1]


def test_whoever_is_at_work_is_told_once_for_each_batch_job(site):
    site.register()
    for step in ("relax", "static", "gate"):
        site.queue(firework(step, _category="cpu"))
    for batch_job in ("41", "41", "42"):
        on = {"batch_system": "slurm", "batch_job": batch_job, "host": "node7"}
        site.start(worker("cpu", **on))
    first, second = site.status().workers
    assert (first.batch_job, sum(first.steps.values())) == ("slurm 41", 2)
    assert (second.batch_job, second.categories, second.name) == ("slurm 42", ("cpu",), "node")
    assert first.since <= first.last_ping <= datetime.now(UTC)


def test_every_candidate_is_judged_once_and_known_phases_are_none(site):
    site.register()
    known = [gate("phase", "known_phase")]
    site.put("outputs", gate("a"), gate("a", uuid="again"), gate("b"), *known)
    phases = {"metadata": shard("", "", 0, 0)["metadata"]}
    phases |= {"uuid": "phases", "output": {"proposals": [{"candidate_id": "phase"}]}}
    site.put(
        "outputs", phases, shard("s1", "x", 2, 2), shard("s2", "x", 6, 3), shard("s3", "y", 6, 6)
    )
    for candidate in ("a", "b", "phase"):
        site.queue(firework("gate", candidate_id=candidate))
    site.run(3)
    found = site.status()
    assert (found.n_wanted, found.n_given_up, found.n_judged, found.n_left) == (12, 3, 2, 7)
    assert [span.n_verdicts for span in found.throughput] == [2, 2, 2]
    assert found.n_unbuilt == 3
    built = {"campaign": "mg-o", "stage": "relaxed", "origin": {"proposer": "random"}}
    built["last_updated"] = datetime.now(UTC)
    site.put("candidates", built | {"candidate_id": "a"}, built | {"candidate_id": "b"})
    found = site.status()
    assert found.n_unbuilt == 1
    assert found.built_on is not None
    assert found.funnel.counts["random"][0] == 2


def test_whoever_left_in_a_prescreen_is_judged_and_counts_for_the_rate(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(5)))
    for hours, counts in ((0.5, {"survived": 1, "hull window": 3}), (5, {"early stopping": 2})):
        ended = datetime.now() - timedelta(hours=hours)  # noqa: DTZ005 - as jobflow writes it
        labels = {"campaign": "mg-o", "step": "prescreen"}
        document = {"uuid": str(hours), "metadata": labels, "output": {"counts": counts}}
        site.put("outputs", document | {"completed_at": ended.isoformat()})
    site.queue(firework("prescreen"), firework("gate", candidate_id="0"))
    site.run(2)
    found = site.status()
    assert [span.n_verdicts for span in found.throughput] == [1 + 3, 1 + 3 + 2, 5]
    assert found.n_left == 12 - 5
    assert {job.step for job in found.jobs} == {"prescreen", "gate"}


@pytest.mark.parametrize(
    ("in_hour", "in_day", "hours_left"), [(20, 100, 0.5), (9, 48, 5.0), (0, 0, None)]
)
def test_the_end_is_expected_at_the_rate_of_the_last_hour_or_day(in_hour, in_day, hours_left):
    campaign = CAMPAIGN.model_copy(
        update={"sampling": CAMPAIGN.sampling.model_copy(update={"structures_per_composition": 6})}
    )
    found = CampaignStatus(
        campaign=campaign,
        n_given_up=0,
        n_judged=2,
        n_unbuilt=0,
        funnel=measure_funnel([], campaign),
        jobs=(JobCount(step="gate", state="READY", category="cpu", n=1, since=datetime.now(UTC)),),
        workers=(),
        throughput=(
            Throughput(hours=1, n_jobs=0, n_verdicts=in_hour),
            Throughput(hours=24, n_jobs=0, n_verdicts=in_day),
            Throughput(hours=50, n_jobs=0, n_verdicts=in_day),
        ),
        failures=(),
    )
    assert found.seconds_left == (hours_left and pytest.approx(hours_left * 3600))
    assert ("unknown" in table.headline(found)) == (hours_left is None)


def waiting(site, category):
    """Queue a job as if hours ago."""
    site.queue(firework("relax", _category=category))
    then = {"updated_on": HOURS_AGO.isoformat()}
    site.launchpad.fireworks.update_many({"state": "READY"}, {"$set": then})


def test_a_category_that_no_worker_takes_is_named(site):
    site.register()
    site.queue(firework("train", _category="gpu"))
    assert site.found() == []  # queued just now
    waiting(site, "gpu")
    site.queue(firework("relax", _category="cpu"))
    site.start(worker("cpu"))
    (found,) = site.found()
    assert found.startswith("2 jobs of category gpu READY for 5 h")
    assert found.endswith("none ever came")


@pytest.mark.parametrize(
    ("taker", "is_missed"),
    [
        (FWorker(), False),
        (FWorker(category=["gpu", "cpu"]), False),
        (FWorker(category="dft"), True),
    ],
)
def test_a_worker_that_is_there_is_not_missed(site, taker, is_missed):
    site.register()
    site.queue(firework("relax", owner="another", _category="dft"))
    site.queue(firework("relax", owner="another", _category="cpu"))
    site.start(taker)
    waiting(site, "gpu")
    assert bool(site.found()) == is_missed


def test_a_worker_that_takes_other_campaigns_only_does_not_count(site):
    site.register()
    site.queue(firework("relax", owner="another"))
    site.start(FWorker(query={"spec.campaign": {"$in": ["another"]}}))
    waiting(site, "cpu")
    assert "no worker takes any" in site.found()[0]


def test_runs_without_a_sign_of_life_are_for_recover(site):
    site.register()
    site.queue(firework("relax"))
    _, launch = site.start(worker())
    assert site.found() == []
    site.launchpad.ping_launch(launch, ptime=HOURS_AGO)
    launches = {"launch_id": launch}
    began = {"state_history.0.created_on": HOURS_AGO.isoformat()}
    site.launchpad.launches.update_one(launches, {"$set": began})
    (obstacle,) = site.status().obstacles
    assert obstacle.found == "1 run silent for up to 5 h"
    assert obstacle.cure == "gan-htvs recover"


def test_a_worker_whose_process_is_gone_is_told_at_once(site):
    site.register()
    for _ in range(2):
        site.queue(firework("relax"))
    site.start(worker(pid=os.getpid()))
    site.start(worker(pid=os.getpid(), started=0.0))  # the number of an earlier process
    assert site.found() == ["1 job RUNNING on workers that are gone"]


def test_a_lock_that_stays_is_told(site):
    site.register()
    site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    assert site.found()[0].startswith("1 workflow locked")


def test_workers_with_other_packages_than_the_submitter_are_named(site):
    site.register(versions={"torch": "2.6", "ase": "3.26"})
    for _ in range(3):
        site.queue(firework("relax"))
    site.queue(firework("relax", owner="another"))
    site.run(1, by=worker(versions={"torch": "2.6", "ase": "3.26"}))
    site.run(3, by=worker(versions={"torch": "2.7", "ase": "3.26"}))
    (found,) = (each for each in site.found() if "packages" in each)
    assert found.startswith("2 jobs with other packages than the submission, on ")
    assert "torch 2.6 (not 2.7)" in found
    assert "ase" not in found


def test_a_campaign_stands_still_when_all_that_is_left_waits_for_a_failure(site):
    site.register()
    references = firework("references", RAISES, owner=REFERENCES)
    site.queue(references, firework("gate", parents=[references]))
    result = site.call()
    assert result.exit_code == 0, result.output
    assert "waits for workers" in result.output
    site.run()
    result = site.call()
    assert result.exit_code == 1
    assert "stands still" in result.output
    assert "ETA" not in result.output
    assert "ValueError: math domain error" in result.output
    assert "waits for 1 job that FIZZLED" in result.output
    assert "gan-htvs retry" in result.output


def test_what_is_judged_is_finished_whatever_failed_on_the_way(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(12)))
    site.queue(firework("relax", RAISES))
    site.run()
    result = site.call("mg-o")
    assert result.exit_code == 0
    assert "finished" in result.output


def test_calculations_that_left_a_reason_are_grouped(site):
    site.register()
    failure = {"@class": "CalculationFailure", "step": "FM relax 1", "reason": "ZBRENT"}
    for n in range(2):
        site.queue(
            firework("relax", {**SUCCEEDS, "job": {"uuid": f"job {n}"}}, candidate_id=str(n))
        )
        labels = {"campaign": "mg-o", "step": "relax", "candidate_id": str(n)}
        output = failure | {"job": f"job {n}", "folder": f"node7:/scratch/{n}"}
        site.put("outputs", {"uuid": f"job {n}", "metadata": labels, "output": output})
        origin = {"proposer": "random"}
        candidate = {"candidate_id": str(n), "campaign": "mg-o", "stage": "failed"}
        site.put("candidates", candidate | {"origin": origin})
    site.run(2)
    (found,) = site.status().failures
    assert (found.kind, found.step, found.reason, found.n) == (
        "calculation",
        "FM relax 1",
        "ZBRENT",
        2,
    )
    assert found.example.startswith("node7:")


def test_the_document_tells_all_campaigns(site):
    site.register()
    site.register(CAMPAIGN.model_copy(update={"name": "second"}))
    site.queue(firework("relax"))
    result = site.call("--json")
    document = json.loads(result.stdout)
    assert [each["name"] for each in document["campaigns"]] == ["mg-o", "second"]
    assert document["campaigns"][0]["jobs"][0]["n"] == 1
    assert document["campaigns"][1]["is_stuck"]
    assert result.exit_code == 1


@pytest.mark.parametrize(("arguments", "lines"), [([], 2), (["--json"], 2)])
def test_watching_tells_a_line_a_look_until_ctrl_c(site, monkeypatch, arguments, lines):
    site.register()
    naps = iter([None])

    def sleep(seconds):
        if next(naps, "stop") == "stop":
            raise KeyboardInterrupt

    monkeypatch.setattr(table, "time", SimpleNamespace(sleep=sleep))
    result = site.call("--watch", *arguments)
    assert result.exit_code == 0
    assert result.output.count("mg-o") == lines


def test_a_database_without_the_campaign_says_what_it_has(site):
    result = site.call()
    assert result.exit_code == 2
    assert "holds no campaign" in result.output
    site.register()
    result = site.call("nobody")
    assert result.exit_code == 2
    assert "mg-o" in result.output
