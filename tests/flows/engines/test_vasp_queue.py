"""Jobs of VASP come back from the database of a queue as what they were."""

from __future__ import annotations

import pytest
from atomate2.vasp.jobs.base import BaseVaspMaker
from jobflow import OutputReference

from flows.engines.vasp_step import VaspStepMaker
from flows.evaluate import EvaluateMaker, band_gap_jobs
from flows.steps import Continuation
from gan_htvs.candidate import Origin, Proposal, Relaxed
from gan_htvs.documents import decode
from gan_htvs.engines import REHEARSAL

from .conftest import REFERENCES, campaign_of, queued, rocksalt

GATE = "uuid-of-the-gate"


@pytest.mark.parametrize("mode", ["static", "gap", "uniform_dense"])
def test_jobs_of_energy_and_gap(mode):
    campaign = campaign_of(
        pre_relaxation="chgnet",
        hybrid={"mode": mode},
        incar={"NCORE": 4},
        failures={"killed": 0.1},
        max_seconds=3600,
        powerups=[
            {
                "name": "update_user_kpoints_settings",
                "arguments": {"kpoints_updates": {"reciprocal_density": 200}},
            }
        ],
    )
    structure = rocksalt("Mn", 4.5)
    proposal = Proposal(
        candidate_id="c0ffee",
        structure=structure,
        origin=Origin(proposer="gan", requested_composition="MnO", index=0),
    )
    relaxed = Relaxed(
        structure=structure,
        energy_per_atom=-9,
        level_of_theory=REHEARSAL,
        converged=True,
        magmoms=[4.6, 0],
    )
    for flow in (
        EvaluateMaker(campaign, REFERENCES).make(proposal),
        Continuation(GATE, band_gap_jobs(campaign, "c0ffee", relaxed, GATE)),
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
    campaign = campaign_of()
    relaxed = Relaxed(
        structure=rocksalt("Mn", 4.5),
        energy_per_atom=-9,
        level_of_theory=REHEARSAL,
        converged=True,
        magmoms=[4.6, 0],
    )
    flow = Continuation(GATE, band_gap_jobs(campaign, "c0ffee", relaxed, GATE))
    hybrid, gap = queued(flow)
    stored = OutputReference(GATE).relaxed
    assert decode(hybrid.function_args[0]) == stored
    assert [decode(argument) for argument in gap.function_args[1:]] == [
        stored,
        campaign.engines,
    ]


def assert_same(after, before):
    """Makers and input sets are dataclasses, which do not compare what they inherit."""
    assert type(after) is type(before)
    assert isinstance(after.vasp, BaseVaspMaker)
    own = {name: value for name, value in vars(before).items() if name != "vasp"}
    assert {name: value for name, value in vars(after).items() if name != "vasp"} == own
    assert type(after.vasp) is type(before.vasp)
    inputs = vars(after.vasp.input_set_generator), vars(before.vasp.input_set_generator)
    assert inputs[0] == inputs[1]
