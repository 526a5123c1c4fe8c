from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gan_htvs.core.errors import UserError
from gan_htvs.evaluation.evaluation_documents import Evaluation, Outcome
from gan_htvs.evaluation.structure_evaluation import EvaluationSettings, evaluate
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.structures.validity import RejectionReason

from .conftest import (
    MG_O,
    RESULTS,
    ZINCBLENDE,
    FixedRelaxations,
    draw,
    evaluate_samples,
)


def pair(share):
    return share.k, share.n


def test_counts_of_raw_samples(evaluation):
    cells = evaluation.compositions[0]
    assert cells.composition == "MgO"
    assert cells.read is None
    assert pair(cells.matched) == (4, 6)
    assert pair(cells.valid_before_declash) == (4, 4)
    assert pair(cells.valid) == (4, 4)
    assert pair(cells.unique) == (3, 4)
    assert pair(cells.novel) == (1, 3)
    assert evaluation.draws[0].exhausted
    assert not evaluation.draws[1].exhausted


def test_rediscovery_before_and_after_relaxation(evaluation):
    two, four = evaluation.compositions
    assert (pair(two.rediscovered), pair(two.rediscovered_relaxed)) == ((1, 1), (1, 1))
    assert (pair(four.rediscovered), pair(four.rediscovered_relaxed)) == ((0, 1), (1, 1))
    assert pair(evaluation.overall.rediscovered_relaxed) == (2, 2)


def test_every_relaxation_has_one_outcome(evaluation):
    assert evaluation.overall.outcomes == {
        Outcome.SOUND: 6,
        Outcome.HOLE: 1,
        Outcome.NOT_CONVERGED: 1,
        Outcome.FAILED: 1,
        Outcome.IMPLAUSIBLE: 1,
    }
    assert evaluation.overall.n_relaxed == len(RESULTS)
    assert [s.outcome for s in evaluation.samples].count(Outcome.NOT_RELAXED) == 1


def test_most_stable_duplicate_is_unique(evaluation):
    wurtzite = [
        s
        for s in evaluation.samples
        if s.outcome is Outcome.SOUND and s.decomposition_energy < -0.005
    ]
    assert [s.unique for s in wurtzite] == [False, True]
    assert pair(evaluation.overall.unique_relaxed) == (5, 6)
    assert pair(evaluation.overall.novel_relaxed) == (4, 6)


@pytest.mark.parametrize(
    ("threshold", "stable", "sun"), [(0.2, 6, 3), (0.1, 5, 2), (0.08, 5, 2), (0.0, 3, 1)]
)
def test_stable_and_sun_are_shares_of_relaxed_structures(evaluation, threshold, stable, sun):
    at = next(t for t in evaluation.overall.thresholds if t.threshold == threshold)
    assert pair(at.stable) == (stable, 10)
    assert pair(at.sun) == (sun, 10)
    # Nine relaxations of 36 s; the failed one has no time.
    assert at.sun_per_cpu_hour == pytest.approx(sun / (9 * 36 / 3600))


def test_counts_of_compositions_add_up(evaluation):
    for field in ("matched", "valid", "unique", "novel", "rediscovered", "unique_relaxed"):
        parts = [pair(getattr(m, field)) for m in evaluation.compositions]
        assert tuple(map(sum, zip(*parts, strict=True))) == pair(getattr(evaluation.overall, field))


def test_number_of_reference_phases(evaluation):
    assert evaluation.reference_phases == 4  # Mg, O2, MgO and MgO2


def test_evaluation_round_trip(evaluation):
    text = evaluation.model_dump_json()
    assert Evaluation.model_validate_json(text).model_dump_json() == text


def test_samples_do_not_depend_on_other_compositions(evaluation):
    alone = evaluate_samples((2, 2))
    displacements = [s.max_displacement for s in evaluation.samples if s.composition == "Mg2O2"]
    assert [s.max_displacement for s in alone.samples] == displacements
    assert alone.overall.thresholds[0].stable.value is None


def test_number_of_relaxations_is_limited_by_the_number_of_samples(evaluation):
    few = evaluate(
        draw((1, 1), n_samples=2),
        training=[ZINCBLENDE],
        relaxations=FixedRelaxations(RESULTS[:2]),
    )
    assert few.overall.n_relaxed == 2
    assert evaluation.n_relaxed == 7


def test_number_of_structures_of_each_draw(evaluation):
    numbers = [
        sum(s.composition == draw.composition for s in evaluation.samples)
        for draw in evaluation.draws
    ]
    assert [draw.n_found for draw in evaluation.draws] == numbers


@pytest.mark.parametrize(("compositions", "message"), [([(1, 2)], "MgO2"), ([], "compositions")])
def test_impossible_composition_is_a_user_error(compositions, message):
    with pytest.raises(UserError, match=message):
        draw(*compositions)


def test_charge_balance_uses_decoded_atoms():
    torch.manual_seed(0)
    parameters = replace(PRESETS["paper"], width=0.05, noise_dim=8)
    untrained = GanProposer(TrainedGenerator.build(MG_O, parameters, seed=0))
    evaluation = evaluate(
        draw((1, 1), n_samples=3, proposer=untrained, max_tries_per_structure=80),
        training=[ZINCBLENDE],
        relaxations=FixedRelaxations([]),
        settings=EvaluationSettings(n_relaxed=0),
    )
    cells, rejections = untrained.read_batch((1, 1), np.random.default_rng([3, 1, 1]))
    n = evaluation.draws[0].tried
    assert 0 < n <= len(rejections)
    n_magnesium, n_oxygen = cells.counts[:n].T
    neutral = (n_magnesium == n_oxygen) & (n_oxygen > 0)
    assert neutral.any()
    assert pair(evaluation.overall.balanced) == (neutral.sum(), n)
    misread = rejections[:n].count(RejectionReason.WRONG_COMPOSITION)
    assert pair(evaluation.overall.read) == (n - misread, n)
    assert pair(evaluation.overall.matched) == (rejections[:n].count(None), n)
