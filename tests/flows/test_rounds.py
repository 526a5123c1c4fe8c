"""Rounds of sampling, in which the generator is trained on what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from flows.campaign import CampaignFlows, CampaignMaker
from flows.rounds import RoundMaker
from flows.sample import Sample, SampleMaker
from flows.train import TrainMaker
from gan_htvs.core.candidate import (
    Ending,
    PrescreenVerdict,
    Proposal,
    RelaxationResult,
    Screened,
)
from gan_htvs.core.document import decode
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.generator.checkpoint import load_output
from tests.helpers import memory_store, mg_o, output_of, proposal, relaxed

TUNED = {"width": 0.02, "batch_size": 8, "coverage_tries": 3}
GENERATOR = {"preset": "tuned", "overrides": TUNED, "max_steps": 2, "round_steps": 1, "rounds": 2}
SAMPLING = {"proposers": ["gan", "random"], "structures_per_composition": 3}


def campaign_of(**generator: Any):
    return mg_o(generator=GENERATOR | generator, sampling=SAMPLING, compositions=["Mg2O2", "Mg3O3"])


def found(name: str, scale: float = 1.0) -> Proposal:
    """Make a structure that the prescreen relaxed; the training set does not have it."""
    lattice = Lattice.from_parameters(3 * scale, 4 * scale, 7 * scale, 80, 95, 100)
    sites = [[0, 0, 0], [0.3, 0.1, 0.35], [0.5, 0.45, 0.6], [0.2, 0.7, 0.8]]
    structure = Structure(lattice, ["Mg", "Mg", "O", "O"], sites)
    verdict = PrescreenVerdict(decomposition_energy=0.05)
    relaxation = RelaxationResult(ending=Ending.CONVERGED, relaxed=relaxed(structure))
    update = {"prescreen": verdict, "relaxation": relaxation}
    return proposal(name, structure).model_copy(update=update)


def converge_at_once(_rules, proposals, *_, **__) -> Screened:
    """Screen structures as if each were at a minimum, 0.1 eV/atom above the hull."""
    relaxations = [
        RelaxationResult(ending=Ending.CONVERGED, relaxed=relaxed(one.structure, -6.22))
        for one in proposals
    ]
    verdict = PrescreenVerdict(decomposition_energy=0.1)
    return Screened(
        proposals=[
            one.model_copy(update={"prescreen": verdict, "relaxation": relaxation})
            for one, relaxation in zip(proposals, relaxations, strict=True)
        ]
    )


@pytest.fixture(scope="module", autouse=True)
def _current_folder(tmp_path_factory):
    """Enter a temporary folder, because training jobs write learning curves where they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("jobs"))
        yield


@pytest.fixture(scope="module")
def trained():
    return output_of(TrainMaker.of(campaign_of()).make())


def round_of(trained, batches, number=2, campaign=None):
    maker = CampaignMaker.of(campaign or campaign_of()).round_maker
    return output_of(maker.make(number, trained, batches))


def test_campaign_with_rounds_runs_with_run_locally(monkeypatch):
    monkeypatch.setattr("flows.prescreen.Prescreen.run", converge_at_once)
    campaign = mg_o(
        generator=GENERATOR,
        sampling=SAMPLING | {"structures_per_composition": 2},
        compositions=["Mg3O3"],
    )
    store = memory_store()
    flow = CampaignMaker.of(campaign).make(campaign)
    run_locally(flow, store=store, log=False, ensure_success=True)
    outputs = [decode(document["output"]) for document in store.query({}, load=True)]
    samples = [output for output in outputs if isinstance(output, Sample)]
    per_round = {(sample.composition, sample.proposer.value): {} for sample in samples}
    for sample in samples:
        rounds = {one.origin.round for one in sample.proposals}
        per_round[sample.composition, sample.proposer.value][rounds.pop()] = len(sample.proposals)
        assert not rounds
    assert per_round == {
        ("Mg3O3", "gan"): {1: 1, 2: 1},
        ("Mg3O3", "random"): {1: 2},
    }
    first, second = sorted(
        (output for output in outputs if isinstance(output, dict) and "sha256" in output),
        key=lambda output: output.get("round", 1),
    )
    assert second["first"] == first["sha256"] != second["sha256"]
    assert second["new"] > 0
    assert second["stopped"] is None
    training = Dataset.from_document(second["training_set"])
    assert training.n_found == second["new"] == len(training) - first["dataset"]["structures"]
    assert load_output(second).dataset == training.hash
    ids = {one.candidate_id for sample in samples for one in sample.proposals}
    assert set(training.labels[-training.n_found :]) <= ids
    selections = [output for output in outputs if isinstance(output, Screened)]
    verdicts = [verdict for part in flow.output.values() for verdict in part.resolve(store)]
    survivors = {one.candidate_id for output in selections for one in output.survivors}
    assert {verdict.candidate_id for verdict in verdicts} <= survivors


def test_training_of_a_round_adds_what_was_found(trained):
    output = round_of(trained, [[found("c1")], [found("c2", 1.01)]])
    dataset = Dataset.from_document(output["training_set"])
    assert (output["round"], output["first"]) == (2, trained["sha256"])
    assert (output["within"], output["new"], output["dropped"]) == (2, 1, 0)
    assert dataset.labels[-1] == "c1"
    assert np.isnan(dataset.energies_above_hull[:-1]).all()
    assert load_output(output).steps == 1
    third = round_of(output, [[found("c3")]], number=3)
    assert third["stopped"] is not None
    assert (third["first"], third["sha256"]) == (trained["sha256"], output["sha256"])


def test_round_with_nothing_new_stops_later_rounds(trained):
    stopped = round_of(trained, [])
    assert "round 1" in stopped["stopped"]
    assert stopped["weights"] == trained["weights"]
    later = round_of(stopped, [[found("c1")]], number=3)
    assert (later["stopped"], later["new"]) == (stopped["stopped"], 0)
    sample = output_of(SampleMaker(system=campaign_of().chemical_system).make("MgO", 3, stopped))
    assert (sample.proposals, sample.skipped) == ([], stopped["stopped"])
    assert sample.batches == [[]]


def test_generator_of_another_chemical_system_is_refused(trained):
    other = mg_o(
        generator=GENERATOR, sampling=SAMPLING, chemical_system={"caps": {"Mg": 2, "O": 2}}
    )
    with pytest.raises(UserError, match="Mg 4, O 4"):
        round_of(trained, [[found("c1")]], campaign=other)


def training_uuids(campaign) -> list[str]:
    flows = CampaignFlows(campaign)
    rounds = [training.output.uuid for training, _ in flows.rounds if training is not None]
    return [flows.shared["training"].output.uuid, *rounds]


def test_settings_of_rounds_change_only_their_trainings():
    first, second = training_uuids(campaign_of())
    assert training_uuids(campaign_of()) == [first, second]
    assert training_uuids(campaign_of(device="cpu")) == [first, second]
    for setting, value in (
        ("round_steps", 7),
        ("round_max_energy_above_hull", 0.2),
        ("round_max_structures", 5000),
    ):
        other = training_uuids(campaign_of(**{setting: value}))
        assert other[0] == first
        assert other[1] != second
    assert training_uuids(campaign_of(rounds=1)) == [first]
    assert training_uuids(campaign_of(rounds=3))[:1] == [first]


def test_training_of_a_round_depends_on_all_prescreens_of_the_last_one():
    _, (training, screens) = CampaignFlows(campaign_of()).rounds
    names = [job.name for flow in screens.values() for job in flow.jobs]
    screen = ["prescreen", "select"]
    assert names == ["sample Mg2O2 gan", *screen, "sample Mg3O3 gan", *screen]
    (job,) = training.jobs
    assert job.name == "train generator, round 2"
    assert len(job.function_args[2]) == 4, "two proposers of two compositions"


def test_round_maker_needs_no_campaign(trained):
    maker = RoundMaker(train_maker=TrainMaker.of(campaign_of()), steps=1)
    assert output_of(maker.make(2, trained, [[found("c1")]]))["new"] == 1
