"""Counts of calculations against documents written by hand."""

from __future__ import annotations

from gan_htvs.core.stages import Step
from launchers.cli.plan_tables import print_counts
from launchers.rehearsal.counts import StageCount, count_stage


def result(n_steps, corrections=()):
    steps = [{"e_0_energy": -1.0}] * n_steps
    return {
        "uuid": "a",
        "output": {
            "calcs_reversed": [{"output": {"ionic_steps": steps}}],
            "custodian": [{"corrections": [{"errors": [error]} for error in corrections]}],
        },
    }


def failure(uuid, job):
    return {"uuid": uuid, "output": {"job": job, "corrections": []}}


def test_results_failures_and_corrections_are_counted():
    documents = [
        result(3),
        result(4, corrections=["zbrent", "brmix"]),
        failure("b", "b"),
        failure("c", "b"),  # the next job passes on the failure
        {"uuid": "d", "output": {"n_steps": 20}},  # a potential
    ]
    count = count_stage(Step.RELAX, documents)
    assert count == StageCount(Step.RELAX, 3, n_failed=1, n_corrected=1, n_ionic_steps=7)


def test_no_documents_are_no_calculations():
    assert count_stage(Step.HYBRID, []) == StageCount(Step.HYBRID, 0, 0, 0, 0)


def test_every_stage_is_printed(capsys):
    print_counts([StageCount(Step.RELAX, 1200, 3, 2, 4567), StageCount(Step.STATIC, 1, 0, 0, 1)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["relax", "1,200", "3", "2", "4,567"] in rows
    assert ["static", "1", "0", "0", "1"] in rows
