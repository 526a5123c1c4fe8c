"""What is told of a campaign, of jobs that FireWorks itself has queued, run and seen fail."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fireworks import FWorker

from gan_htvs.results.funnel import measure_funnel
from launchers.monitor.status import table
from launchers.monitor.status.status_document import CampaignStatus, JobCount, Throughput

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


def test_every_candidate_is_judged_once_and_reference_phases_are_none(site):
    site.register()
    known = [gate("phase", "reference_phase")]
    site.put("outputs", gate("a"), gate("a", uuid="again"), gate("b"), *known)
    site.put("outputs", sample("s1", "x", 2, 2), sample("s2", "x", 6, 3), sample("s3", "y", 6, 6))
    for candidate in ("a", "b", "phase"):
        site.queue(firework("gate", candidate_id=candidate))
    site.run(3)
    found = site.status()
    assert (found.n_requested, found.n_not_proposed) == (12, 3)
    assert (found.n_evaluated, found.n_remaining) == (2, 7)
    assert [span.n_verdicts for span in found.throughput] == [2, 2, 2]
    assert found.n_unbuilt == 3
    built = {"campaign": "mg-o", "stage": "relaxed", "origin": {"proposer": "random"}}
    built["last_updated"] = datetime.now(UTC)
    site.put("candidates", built | {"candidate_id": "a"}, built | {"candidate_id": "b"})
    found = site.status()
    assert found.n_unbuilt == 1
    assert found.built_on is not None
    assert found.funnel.counts["random"][0] == 2


def test_what_a_prescreen_rejected_is_judged_and_counts_for_the_rate(site):
    site.register()
    site.put("outputs", gate("0"))
    screened = {0.5: {"0": None, "1": "hull window", "2": "hull window"}, 5: {"3": "relaxation"}}
    for hours, verdicts in screened.items():
        document = prescreen(f"batch {hours}", verdicts)
        site.put("outputs", document | {"completed_at": hours_ago(hours)})
    site.put("outputs", selection("selection", ["4"]))
    site.queue(firework("prescreen"), firework("gate", candidate_id="0"))
    site.run(2)
    found = site.status()
    assert [span.n_verdicts for span in found.throughput] == [1 + 2 + 1, 1 + 2 + 1 + 1, 5]
    assert (found.n_evaluated, found.n_remaining) == (5, 12 - 5)
    assert {job.step for job in found.jobs} == {"prescreen", "gate"}


def test_what_came_out_of_an_archive_is_no_rate(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(5)))
    found = site.status()
    assert found.n_evaluated == 5
    assert [span.n_verdicts for span in found.throughput] == [0, 0, 0]
    assert found.seconds_remaining is None


@pytest.mark.parametrize(
    ("in_hour", "in_day", "hours_left"), [(20, 100, 0.5), (9, 48, 5.0), (0, 0, None)]
)
def test_the_end_is_expected_at_the_rate_of_the_last_hour_or_day(in_hour, in_day, hours_left):
    campaign = CAMPAIGN.model_copy(
        update={"sampling": CAMPAIGN.sampling.model_copy(update={"structures_per_composition": 6})}
    )
    found = CampaignStatus(
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
            Throughput(period="since it began", hours=50, n_jobs=0, n_verdicts=in_day),
        ),
        failures=(),
    )
    assert found.seconds_remaining == (hours_left and pytest.approx(hours_left * 3600))
    assert ("unknown" in table.headline(found)) == (hours_left is None)


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
