"""The benchmarks of scale run the jobs that they claim to measure."""

from __future__ import annotations

import jobflow
import pytest

from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.launchpad.database import open_databases


@pytest.fixture
def orchestration(import_benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a worker changes its directory
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", jobflow.SETTINGS.JOB_STORE)
    (tmp_path / "launches").mkdir()
    return import_benchmark("orchestration")


def test_layout_runs_each_job_once(orchestration, import_benchmark, launchpad_file, tmp_path):
    with open_databases(launchpad_file) as databases:
        layout = orchestration.Layout(launchpad_file, databases, tmp_path)
        layout.queue(2, 1)
        layout.launch(6)  # two chains, each with the release at its end
        counts = layout.job_counts()
        assert counts.is_complete
        assert counts.n_jobs == 6
        assert layout.seconds_per_launch > 0
        with databases.job_store() as outputs:
            documents = list(outputs.query({"name": "density"}, ["output"]))
        expected = [import_benchmark("chains").proposal(n).structure.density for n in range(2)]
        densities = [document["output"] for document in documents]
        assert sorted(densities) == pytest.approx(sorted(expected))

        layout.launchpad.rerun_fw(layout.launchpad.get_fw_ids({"name": "relax"})[0])
        assert not layout.job_counts().is_complete


def test_campaigns_are_submitted_once_and_in_both_ways(import_benchmark):
    submission = import_benchmark("submission")
    campaign = submission.campaign_of(2, 60)
    with submission.databases_of("bulk", "single") as ((bulk, single), _):
        # References, training, two compositions, the reference phases, two chunks of each.
        assert submission.submit(campaign, bulk) == 9
        assert submission.submit(campaign, bulk) == 0
        assert submission.submit(campaign, single, one_by_one=True) == 9
        units = [
            {workflow["metadata"]["unit"] for workflow in databases.launchpad().workflows.find()}
            for databases in (bulk, single)
        ]
        assert len(units[0]) == 9
        assert units[0] == units[1]
        gates = bulk.launchpad().fireworks.count_documents({"spec.step": "gate"})
        assert gates == 2 * 60 + len(phases_of(campaign)) - 1  # O2 is no candidate
