"""Behavior that all Makers share."""

from __future__ import annotations

import json

import pytest
from jobflow import Flow
from jobflow.managers.fireworks import flow_to_workflow
from monty.json import MontyDecoder, MontyEncoder

from flows.band_gap import GpawBandGapMaker
from flows.campaign import CampaignMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.composition import CompositionMaker
from flows.energy import PotentialEnergyMaker
from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from flows.prescreen import PrescreenMaker, SelectMaker
from flows.references import ReferencesMaker
from flows.sample import SampleMaker
from flows.train import MG_MN_O, TrainMaker
from gan_htvs.core.candidate import Screened
from gan_htvs.core.errors import UserError
from tests.helpers import PBE_U, mg_o, references, rocksalt

MAKERS = [
    CampaignMaker,
    CandidateMaker,
    CompositionMaker,
    GpawBandGapMaker,
    PotentialEnergyMaker,
    PrescreenMaker,
    ReferencesMaker,
    SampleMaker,
    SelectMaker,
    StabilityMaker,
    TrainMaker,
    VaspBandGapMaker,
    VaspEnergyMaker,
]


@pytest.mark.parametrize(
    "maker",
    [maker_class() for maker_class in MAKERS] + [CampaignMaker.of(mg_o())],
    ids=lambda maker: type(maker).__name__,
)
def test_maker_survives_json_round_trip(maker):
    text = json.dumps(maker, cls=MontyEncoder)
    decoded = MontyDecoder().process_decoded(json.loads(text))
    assert type(decoded) is type(maker)
    assert json.loads(json.dumps(decoded, cls=MontyEncoder)) == json.loads(text)


def test_jobs_survive_fireworks_round_trip():
    flow = CandidateMaker().make(rocksalt(), references())
    workflow = flow_to_workflow(Flow([flow]))
    for job, firework in zip(flow.jobs, workflow.fws, strict=True):
        document = json.loads(json.dumps(firework.to_db_dict(), default=str))
        stored = MontyDecoder().process_decoded(document["spec"]["_tasks"][0]["job"])
        assert stored.maker == job.maker
        assert stored.uuid == job.uuid


def test_different_levels_of_theory_are_refused_when_the_flow_is_made():
    with pytest.raises(UserError, match="cannot be compared"):
        PrescreenMaker(confirm=None).make([rocksalt()], references("SevenNet-0+MP2020"))
    with pytest.raises(UserError, match="cannot be compared"):
        CandidateMaker().make_all(Screened(proposals=[]), references("SevenNet-0+MP2020"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampleMaker().make("MgMn2O4", 0), "n_structures"),
        (lambda: SampleMaker(batch_size=0).make("MgMn2O4", 1), "batch_size"),
        (lambda: SampleMaker().make("Xx2", 1), "'Xx2' is impossible"),
        (lambda: SampleMaker(system=MG_MN_O).make("Mg9MnO12", 1), "must have 1 to 8"),
        (lambda: CompositionMaker(sample_makers=[]).screen("MgO"), "sample_makers"),
        (lambda: CompositionMaker().screen("MgMn2O4"), "needs references"),
        (
            lambda: CompositionMaker().make("MgMn2O4", references=references()),
            "no reference energy of Mn",
        ),
        (
            lambda: CompositionMaker(
                candidate_maker=CandidateMaker(energy_maker=VaspEnergyMaker())
            ).make("MgO", references=references(PBE_U)),
            "give prescreen_references",
        ),
        (
            lambda: ReferencesMaker().make(["Xx", "O"]),
            "'Xx'.* is not a list",
        ),
        (lambda: ReferencesMaker().make("MgO"), "'MgO' is not a list"),
        (lambda: PrescreenMaker(confirm=None).make([rocksalt("Mn")], references()), "Mn"),
    ],
)
def test_wrong_input_is_a_user_error_when_the_job_is_made(make, message):
    with pytest.raises(UserError, match=message):
        make()
