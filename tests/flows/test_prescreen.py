from __future__ import annotations

import pytest
from jobflow import Flow, run_locally
from pymatgen.core import Lattice, Structure

from flows.prescreen import PrescreenMaker, SelectMaker
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import cesium_chloride, memory_store, proposal, references, rocksalt

BATCH = [
    proposal("good", rocksalt()),
    proposal("again", rocksalt(length=4.25) * (1, 1, 2)),
    proposal("high", cesium_chloride()),
]
MAKER = PrescreenMaker(confirm=None, potential=PotentialSettings(max_steps=60))


def run(work):
    store = memory_store()
    run_locally(work, store=store, log=False, raise_immediately=True)
    return store


def test_each_structure_has_a_verdict_and_survivors_a_relaxed_structure():
    job = MAKER.make(BATCH, references())
    batch = job.output.resolve(run(job))
    assert batch.counts == {"survived": 1, "duplicate before relaxation": 1, "hull window": 1}
    good, again, high = batch.screened
    assert good.verdict.survives
    assert good.relaxation.relaxed.converged
    assert len(good.relaxation.curve.energies) == good.relaxation.relaxed.n_steps + 1
    assert again.verdict.duplicate_of == "good"
    assert again.relaxation is None, "it was not relaxed"
    assert high.verdict.energy_above_hull > 0.2


def test_plain_structures_get_the_provenance_of_a_user():
    job = MAKER.make([rocksalt()], references())
    (screened,) = job.output.resolve(run(job)).screened
    assert screened.proposal.origin.proposer == "user"


def test_an_interrupted_batch_resumes(scratch, monkeypatch):
    first = MAKER.make(BATCH, references())
    before = first.output.resolve(run(first))
    assert len(list(scratch.glob("relaxations-*.jsonl"))) == 1

    def relaxes_again(*work):
        raise AssertionError(work)

    monkeypatch.setattr(
        "gan_htvs.potentials.relaxation.spread",
        lambda function, work, *a, **k: iter([relaxes_again(work)] if work else []),
    )
    again = MAKER.make(BATCH, references())
    assert again.output.resolve(run(again)) == before


def test_a_batch_runs_where_nothing_can_be_kept(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(tmp_path / "file" / "below"))
    job = MAKER.make(BATCH[:1], references())
    assert job.output.resolve(run(job)).counts == {"survived": 1}


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ([], "the list is empty"),
        ([Structure(Lattice.cubic(4), [{"Mg": 0.5}], [[0, 0, 0]])], "partly occupied"),
    ],
)
def test_what_cannot_be_prescreened_is_refused_when_the_job_is_made(structures, message):
    with pytest.raises(UserError, match=message):
        MAKER.make(structures, references())


def test_references_of_another_level_are_refused():
    with pytest.raises(UserError, match="CHGNet"):
        run(MAKER.make(BATCH, references("PBE(+U)+MP2020")))
    with pytest.raises(UserError, match="confirming_references"):
        PrescreenMaker().make(BATCH, references())


def test_a_crystal_of_two_batches_survives_once_and_the_most_stable_comes_first():
    longer = proposal("longer", rocksalt(length=4.4) * (1, 1, 2))
    one, two = MAKER.make(BATCH, references()), MAKER.make([longer], references())
    selecting = SelectMaker().make([one.output, two.output])
    selection = selecting.output.resolve(run(Flow([one, two, selecting])))
    assert [each.proposal.candidate_id for each in selection.survivors] == ["good"]
    assert [each.duplicate_of for each in selection.rejected] == ["good"]


def test_without_a_prescreen_all_structures_survive():
    selecting = SelectMaker().make([BATCH[:1], BATCH[1:]])
    selection = selecting.output.resolve(run(selecting))
    assert [each.proposal for each in selection.survivors] == BATCH
    assert selection.survivors[0].relaxed is None
