"""VASP jobs survive a round trip through the database of a queue."""

from __future__ import annotations

import pytest
from atomate2.vasp.jobs.base import BaseVaspMaker

from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from flows.engines.vasp_step import VaspStepMaker
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.document import decode
from tests.helpers import PBE_U, relaxed, rocksalt

from .conftest import queued

RELAXED = relaxed(rocksalt("Mn", 4.5), -9, PBE_U, magmoms=[4.6, 0])


def engines(**vasp):
    return EngineSettings(energy={"name": "vasp"}, band_gap={"name": "vasp"}, vasp=vasp)


@pytest.mark.parametrize("mode", ["static", "gap", "uniform_dense"])
def test_jobs_survive_round_trip_through_queue(mode):
    settings = engines(
        pre_relaxation="chgnet",
        hybrid={"mode": mode},
        incar={"NCORE": 4},
        max_seconds=3600,
        powerups=[
            {
                "name": "update_user_kpoints_settings",
                "arguments": {"kpoints_updates": {"reciprocal_density": 200}},
            }
        ],
    )
    for flow in (
        VaspEnergyMaker.of(settings).make(RELAXED.structure),
        VaspBandGapMaker.of(settings).make(RELAXED),
    ):
        before = {job.uuid: job for job, _ in flow.iterflow()}
        after = {job.uuid: job for job in queued(flow)}
        assert after.keys() == before.keys()
        for uuid, job in after.items():
            assert job.config == before[uuid].config
            assert job.metadata == before[uuid].metadata
            if isinstance(before[uuid].maker, VaspStepMaker):
                assert_same(job.maker, before[uuid].maker)


def test_arguments_keep_their_types():
    flow = VaspBandGapMaker.of(engines()).make(RELAXED)
    hybrid, gap = queued(flow)
    assert decode(hybrid.function_args[0]) == RELAXED
    assert [decode(argument) for argument in gap.function_args] == [flow.jobs[0].output, RELAXED]


def assert_same(after, before):
    """Compare Makers and input sets by attributes; their __eq__ ignores inherited fields."""
    assert type(after) is type(before)
    assert isinstance(after.vasp, BaseVaspMaker)
    own = {name: value for name, value in vars(before).items() if name != "vasp"}
    assert {name: value for name, value in vars(after).items() if name != "vasp"} == own
    assert type(after.vasp) is type(before.vasp)
    inputs = vars(after.vasp.input_set_generator), vars(before.vasp.input_set_generator)
    assert inputs[0] == inputs[1]
