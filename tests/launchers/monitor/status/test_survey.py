"""Status of campaigns with jobs that were queued and run by FireWorks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fireworks import FWorker
from monty.json import jsanitize

from gan_htvs.results.funnel import measure_funnel
from launchers.monitor.status import table
from launchers.monitor.status.status_document import CampaignStatus, JobCount, Throughput
from launchers.results.campaign_report import read_results
from tests import helpers

from .conftest import (
    CAMPAIGN,
    RAISES,
    REFERENCES,
    SUCCEEDS,
    firework,
    gate,
    hours_ago,
    prescreen,
    sample,
    selection,
    worker,
)


def test_jobs_and_failures_are_counted(site):
    site.register()
    for _ in range(2):
        site.queue(firework("relax", RAISES, _category="cpu"))
    first = firework("propose", _category="gpu")
    site.queue(first, firework("relax", _category="cpu", parents=[first]))
    site.queue(firework("references", RAISES, owner=REFERENCES))
    site.queue(firework("relax", owner="another"))
    site.run(2)
    site.run(1, by=FWorker(name="node", category="gpu"))
    status = site.status()
    counts = {(job.step, job.category, job.state): job.n for job in status.jobs}
    assert counts == {
        ("relax", "cpu", "FIZZLED"): 2,
        ("propose", "gpu", "COMPLETED"): 1,
        ("relax", "cpu", "READY"): 1,
        ("references", None, "READY"): 1,
    }
    (failure,) = status.failures
    assert (failure.kind, failure.step, failure.n) == ("job", "relax", 2)
    assert failure.reason == "ValueError: math domain error"
    assert str(site.folder) in failure.example
    assert [span.n_jobs for span in status.throughput] == [1, 1, 1]


def test_running_jobs_are_grouped_by_batch_job(site):
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


def test_candidates_are_counted_once_without_reference_phases(site):
    site.register()
    phase = gate("phase", "reference_phase")
    site.put("outputs", gate("a"), gate("a", uuid="again"), gate("b"), phase)
    site.put("outputs", sample("s1", "x", 2, 2), sample("s2", "x", 6, 3), sample("s3", "y", 6, 6))
    for candidate in ("a", "b", "phase"):
        site.queue(firework("gate", candidate_id=candidate))
    site.run(3)
    status = site.status()
    assert (status.n_requested, status.n_not_proposed) == (12, 3)
    assert (status.n_evaluated, status.n_remaining) == (2, 7)
    assert [span.n_verdicts for span in status.throughput] == [2, 2, 2]
    assert status.n_unbuilt == 3
    built = {"campaign": "mg-o", "stage": "relaxed", "origin": {"proposer": "random"}}
    built["last_updated"] = datetime.now(UTC)
    site.put("candidates", built | {"candidate_id": "a"}, built | {"candidate_id": "b"})
    status = site.status()
    assert status.n_unbuilt == 1
    assert status.built_on is not None
    assert status.funnel.counts["random"][0] == 2


def test_rejections_of_the_prescreen_count_as_verdicts(site):
    site.register()
    site.put("outputs", gate("0"))
    screened = {0.5: {"0": None, "1": "hull window", "2": "hull window"}, 5: {"3": "relaxation"}}
    for hours, verdicts in screened.items():
        document = prescreen(f"batch {hours}", verdicts)
        site.put("outputs", document | {"completed_at": hours_ago(hours)})
    site.put("outputs", selection("selection", ["4"]))
    site.queue(firework("prescreen"), firework("gate", candidate_id="0"))
    site.run(2)
    status = site.status()
    assert [span.n_verdicts for span in status.throughput] == [1 + 2 + 1, 1 + 2 + 1 + 1, 5]
    assert (status.n_evaluated, status.n_remaining) == (5, 12 - 5)
    assert {job.step for job in status.jobs} == {"prescreen", "gate"}


def test_restored_archive_has_no_rate(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(5)))
    status = site.status()
    assert status.n_evaluated == 5
    assert [span.n_verdicts for span in status.throughput] == [0, 0, 0]
    assert status.seconds_remaining is None


def test_rate_of_a_finished_campaign_does_not_depend_on_the_time(site):
    site.register()
    site.put("outputs", *(gate(str(n)) | {"completed_at": hours_ago(50)} for n in range(12)))
    site.queue(firework("gate", candidate_id="0"), firework("gate", candidate_id="1"))
    site.run(1)
    assert [span.period for span in site.status().throughput] == [
        "last hour",
        "last day",
        "since start",
    ]
    site.run(1)
    now = datetime.now(UTC)
    times = {"created_on": now - timedelta(hours=53), "updated_on": now - timedelta(hours=50)}
    changes = {name: time.replace(tzinfo=None).isoformat() for name, time in times.items()}
    site.launchpad.fireworks.update_many({}, {"$set": changes})
    status = site.status()
    assert status.is_finished
    (whole,) = status.throughput
    assert (whole.period, whole.n_jobs, whole.n_verdicts) == ("first to last job", 2, 12)
    assert whole.hours == pytest.approx(3)
    assert whole.verdicts_per_hour == pytest.approx(4)
    assert status.seconds_remaining == 0
    assert "first to last job" in site.call().output


def test_numbers_of_phases_and_training_structures_are_those_of_the_funnel(site):
    site.register()
    energies = {"Mg": 0.0, "O2": 0.0, "MgO": -3.06, "MgO2": -2.0}
    references = helpers.references(energies=energies)
    entries = [
        *references.entries[:-1],
        references.entries[-1].model_copy(update={"merged": ("MgO2 again",)}),
    ]
    references = references.model_copy(update={"entries": tuple(entries)})
    site.put(
        "outputs",
        {
            "uuid": "references",
            "metadata": {"campaign": REFERENCES, "step": "references"},
            "output": jsanitize(references, strict=True),
        },
        {
            "uuid": "train",
            "metadata": {"campaign": "training", "step": "train"},
            "output": {"sha256": "c0ffee", "dataset": {"structures": 971}},
        },
    )
    site.put(
        "candidates",
        {
            "candidate_id": "a",
            "campaign": "mg-o",
            "stage": "relaxed",
            "formula_pretty": "MgO",
            "origin": {"proposer": "random", "checkpoint": "c0ffee"},
            "gate": {"references": references.content_hash},
        },
    )
    setting = dict(row[:2] for row in site.status().funnel.setting)
    assert (setting["training structures"], setting["reference phases"]) == (971, 5)
    assert site.status().funnel == read_results(site.databases, "mg-o").funnel


@pytest.mark.parametrize(
    ("in_hour", "in_day", "hours_remaining"), [(20, 100, 0.5), (9, 48, 5.0), (0, 0, None)]
)
def test_remaining_time_uses_rate_of_last_hour_or_day(in_hour, in_day, hours_remaining):
    campaign = CAMPAIGN.model_copy(
        update={"sampling": CAMPAIGN.sampling.model_copy(update={"structures_per_composition": 6})}
    )
    status = CampaignStatus(
        campaign=campaign,
        name=campaign.name,
        n_requested=campaign.n_structures,
        n_not_proposed=0,
        n_evaluated=2,
        n_unbuilt=0,
        funnel=measure_funnel([], campaign),
        jobs=(JobCount(step="gate", state="READY", category="cpu", n=1, since=datetime.now(UTC)),),
        workers=(),
        throughput=(
            Throughput(period="last hour", hours=1, n_jobs=0, n_verdicts=in_hour),
            Throughput(period="last day", hours=24, n_jobs=0, n_verdicts=in_day),
            Throughput(period="since start", hours=50, n_jobs=0, n_verdicts=in_day),
        ),
        failures=(),
    )
    assert status.seconds_remaining == (hours_remaining and pytest.approx(hours_remaining * 3600))
    assert ("unknown" in table.headline(status)) == (hours_remaining is None)


def test_failed_calculations_are_grouped_by_reason(site):
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
    (failures,) = site.status().failures
    assert (failures.kind, failures.step, failures.reason, failures.n) == (
        "calculation",
        "FM relax 1",
        "ZBRENT",
        2,
    )
    assert failures.example.startswith("node7:")
