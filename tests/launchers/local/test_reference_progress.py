"""Progress of the relaxations of reference phases."""

from __future__ import annotations

import pytest

from flows.energy import PotentialEnergyMaker
from flows.references import ReferencesMaker
from flows.routing import jobs_of
from launchers.local.reference_progress import ReferenceProgress
from tests.helpers import rocksalt

PHASES = {f"MgO {n}": rocksalt(length=4.2 + n / 100) for n in range(3)}


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Jobs of two batches, whose journals are in a new folder."""
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(tmp_path))
    monkeypatch.setattr("flows.energy.REFERENCES_PER_BATCH", 2)
    return jobs_of(PotentialEnergyMaker().make_references(PHASES))


def test_finished_phases_are_counted(jobs):
    progress = ReferenceProgress(jobs)
    assert progress.counts() == (0, 3)
    first, second = (job.maker.references_journal(job.function_args[0]) for job in jobs)
    first.write_text("{}\n{}\n")
    assert progress.counts() == (2, 3)
    second.write_text("{}\n")
    assert progress.counts() == (3, 3)


def test_interrupted_relaxations_are_counted(jobs):
    jobs[0].maker.references_journal(jobs[0].function_args[0]).write_text("{}\n")
    assert ReferenceProgress(jobs).counts() == (1, 3)


def test_equal_phases_are_counted_once(jobs):
    work = PotentialEnergyMaker().make_references({"a": rocksalt(), "b": rocksalt()})
    assert ReferenceProgress(jobs_of(work)).counts() == (0, 1)


def test_other_jobs_are_not_counted(jobs):
    relaxation = PotentialEnergyMaker().make(rocksalt())
    references = jobs_of(ReferencesMaker().make(["O"]))
    assert ReferenceProgress([relaxation, *references]).counts() is None
