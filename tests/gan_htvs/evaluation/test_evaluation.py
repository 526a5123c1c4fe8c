from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gan_htvs.core.errors import UserError
from gan_htvs.evaluation.evaluate import evaluate
from gan_htvs.evaluation.evaluation_documents import Evaluation, Outcome
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.structures.validity import RejectionReason

from .conftest import (
    MG_O,
    RESULTS,
    STATES,
    ZINCBLENDE,
    ByHand,
    RelaxedByHand,
    dataset_of,
    sampled,
)


def pair(share):
    return share.k, share.n


def test_raw_samples_are_counted_step_by_step(judged):
    cells = judged.compositions[0]
    assert cells.composition == "MgO"
    assert cells.read is None
    assert pair(cells.matched) == (4, 6)
    assert pair(cells.valid_before_declash) == (4, 4)
    assert pair(cells.valid) == (4, 4)
    assert pair(cells.unique) == (3, 4)
    assert pair(cells.novel) == (1, 3)
    assert judged.draws[0].exhausted
    assert not judged.draws[1].exhausted


def test_held_out_structures_are_found_before_and_after_relaxation(judged):
    two, four = judged.compositions
    assert (pair(two.rediscovered), pair(two.rediscovered_relaxed)) == ((1, 1), (1, 1))
    assert (pair(four.rediscovered), pair(four.rediscovered_relaxed)) == ((0, 1), (1, 1))
    assert pair(judged.overall.rediscovered_relaxed) == (2, 2)


def test_every_relaxation_has_one_fate(judged):
    assert judged.overall.outcomes == {
        Outcome.SOUND: 6,
        Outcome.HOLE: 1,
        Outcome.NOT_CONVERGED: 1,
        Outcome.FAILED: 1,
        Outcome.IMPLAUSIBLE: 1,
    }
    assert judged.overall.n_relaxed == len(RESULTS)
    assert [s.outcome for s in judged.samples].count(Outcome.NOT_RELAXED) == 1


def test_of_duplicates_the_most_stable_is_unique(judged):
    wurtzite = [
        s for s in judged.samples if s.outcome is Outcome.SOUND and s.energy_above_hull < -0.005
    ]
    assert [s.unique for s in wurtzite] == [False, True]
    assert pair(judged.overall.unique_relaxed) == (5, 6)
    assert pair(judged.overall.novel_relaxed) == (4, 6)


@pytest.mark.parametrize(("threshold", "stable", "sun"), [(0.2, 6, 3), (0.08, 5, 2), (0.0, 3, 1)])
def test_stable_unique_and_novel_are_shares_of_what_was_relaxed(judged, threshold, stable, sun):
    at = next(t for t in judged.overall.thresholds if t.threshold == threshold)
    assert pair(at.stable) == (stable, 10)
    assert pair(at.sun) == (sun, 10)
    # Nine relaxations of 36 s; the one that raised left no time.
    assert at.sun_per_cpu_hour == pytest.approx(sun / (9 * 36 / 3600))


def test_compositions_add_up_to_the_whole(judged):
    for field in ("matched", "valid", "unique", "novel", "rediscovered", "unique_relaxed"):
        parts = [pair(getattr(m, field)) for m in judged.compositions]
        assert tuple(map(sum, zip(*parts, strict=True))) == pair(getattr(judged.overall, field))


def test_the_reference_phases_of_magnesia_are_counted(judged):
    assert judged.reference_phases == 4  # Mg, O2, MgO and MgO2


def test_an_evaluation_reads_back(judged):
    text = judged.model_dump_json()
    assert Evaluation.model_validate_json(text).model_dump_json() == text


def test_samples_do_not_depend_on_the_other_compositions(judged):
    alone = sampled((2, 2))
    displacements = [s.max_displacement for s in judged.samples if s.composition == "Mg2O2"]
    assert [s.max_displacement for s in alone.samples] == displacements
    assert alone.overall.thresholds[0].stable.value is None


def test_no_more_are_relaxed_than_were_sampled(judged):
    few = evaluate(
        ByHand(),
        [(1, 1)],
        oxidation_states=STATES,
        training=dataset_of(ZINCBLENDE),
        relaxations=RelaxedByHand(RESULTS[:2]),
        n_samples=2,
        n_relaxed=5,
    )
    assert few.n_relaxed == few.overall.n_relaxed == 2
    assert judged.n_relaxed == 7


def test_a_draw_knows_how_many_structures_it_found(judged):
    found = [
        sum(s.composition == draw.composition for s in judged.samples) for draw in judged.draws
    ]
    assert [draw.found for draw in judged.draws] == found


@pytest.mark.parametrize(
    ("compositions", "message"), [([(1, 2)], "composition MgO2"), ([], "there is none")]
)
def test_impossible_compositions_are_one_sentence(compositions, message):
    with pytest.raises(UserError, match=message):
        evaluate(
            ByHand(),
            compositions,
            oxidation_states=STATES,
            training=dataset_of(ZINCBLENDE),
            relaxations=RelaxedByHand([]),
        )


def test_charge_balance_counts_what_the_generator_made_not_what_was_asked_for():
    torch.manual_seed(0)
    parameters = replace(PRESETS["paper"], width=0.05, noise_dim=8)
    untrained = GanProposer(TrainedGenerator.build(MG_O, parameters, seed=0))
    judged = evaluate(
        untrained,
        [(1, 1)],
        oxidation_states=STATES,
        training=dataset_of(ZINCBLENDE),
        relaxations=RelaxedByHand([]),
        n_samples=3,
        n_relaxed=0,
        max_tries_per_structure=80,
    )
    cells, refused = untrained.read_batch((1, 1), np.random.default_rng([0, 1, 1]))
    n = judged.draws[0].tried
    assert 0 < n <= len(refused)
    n_magnesium, n_oxygen = cells.counts[:n].T
    neutral = (n_magnesium == n_oxygen) & (n_oxygen > 0)
    assert neutral.any()
    assert pair(judged.overall.balanced) == (neutral.sum(), n)
    misread = refused[:n].count(RejectionReason.WRONG_COMPOSITION)
    assert pair(judged.overall.read) == (n - misread, n)
    assert pair(judged.overall.matched) == (refused[:n].count(None), n)
