from __future__ import annotations

import pytest
from jobflow import Flow
from pymatgen.core import Lattice, Structure

from flows.prescreen import PrescreenMaker, SelectMaker
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import PBE_U, cesium_chloride, output_of, proposal, references, rocksalt

BATCH = [
    proposal("good", rocksalt()),
    proposal("duplicate", rocksalt(length=4.25) * (1, 1, 2)),
    proposal("high", cesium_chloride()),
]
MAKER = PrescreenMaker(confirm=None, potential=PotentialSettings(max_steps=60))


def test_structures_have_verdicts_and_survivors_relaxed_structures():
    batch = output_of(MAKER.make(BATCH, references()))
    good, duplicate, high = batch.proposals
    assert batch.survivors == [good]
    assert good.relaxation.relaxed.converged
    assert len(good.relaxation.curve.energies) == good.relaxation.relaxed.n_steps + 1
    assert duplicate.prescreen.duplicate_of == "good"
    assert duplicate.relaxation is None
    assert high.prescreen.decomposition_energy > 0.2


def test_plain_structures_have_provenance_user():
    (screened,) = output_of(MAKER.make([rocksalt()], references())).proposals
    assert screened.origin.proposer == "user"


def test_interrupted_batch_resumes(scratch, monkeypatch):
    before = output_of(MAKER.make(BATCH, references()))
    assert len(list(scratch.glob("relaxations-*.jsonl"))) == 1

    def refuse_work(function, work, *arguments, **settings):
        assert not work, "nothing is relaxed again"
        return iter([])

    monkeypatch.setattr("gan_htvs.potentials.relaxation.run_in_processes", refuse_work)
    assert output_of(MAKER.make(BATCH, references())) == before


def test_batch_runs_without_writable_scratch(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(tmp_path / "file" / "below"))
    assert len(output_of(MAKER.make(BATCH[:1], references())).survivors) == 1


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ([], "the list is empty"),
        ([Structure(Lattice.cubic(4), [{"Mg": 0.5}], [[0, 0, 0]])], "partly occupied"),
    ],
)
def test_invalid_structures_are_refused_when_the_job_is_made(structures, message):
    with pytest.raises(UserError, match=message):
        MAKER.make(structures, references())


def test_references_of_another_level_of_theory_are_refused():
    with pytest.raises(UserError, match="CHGNet"):
        MAKER.make(BATCH, references(PBE_U))
    with pytest.raises(UserError, match="confirming_references"):
        PrescreenMaker().make(BATCH, references())


def test_selection_keeps_most_stable_duplicate_of_two_batches():
    longer = proposal("longer", rocksalt(length=4.4) * (1, 1, 2))
    screen_jobs = [MAKER.make(batch, references()) for batch in (BATCH, [longer])]
    select_job = SelectMaker().make([job.output.proposals for job in screen_jobs])
    selection = output_of(Flow([*screen_jobs, select_job], output=select_job.output))
    good, longer = selection.proposals
    assert selection.survivors == [good]
    assert longer.prescreen.duplicate_of == good.candidate_id == "good"


def test_all_structures_survive_without_prescreen():
    selection = output_of(SelectMaker().make([BATCH[:1], BATCH[1:]]))
    assert selection.survivors == BATCH
