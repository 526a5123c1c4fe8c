"""Margins of early stopping are calibrated on complete relaxations."""

from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.core.candidate import Curve
from gan_htvs.prescreen.stopping import StoppingRule


def decay(ended: float, height: float, speed: float, n_steps: int = 60) -> list[float]:
    return (ended + height * np.exp(-speed * np.arange(n_steps + 1))).tolist()


@pytest.fixture(scope="module")
def calibration(import_benchmark):
    return import_benchmark("calibration")


def relaxations(calibration, n: int = 200, seed: int = 0):
    """Generate exponential decays that end between 0 and 1 eV/atom above the hull."""
    rng = np.random.default_rng(seed)
    traces = []
    for i in range(n):
        ended = float(rng.uniform(0, 1))
        energies = decay(ended, float(rng.uniform(0.1, 1)), float(rng.uniform(0.05, 0.3)))
        traces.append(calibration.Trace(energies, energies[-1], f"composition {i % 20}"))
    return traces


@pytest.fixture(scope="module")
def rule(calibration) -> StoppingRule:
    return calibration.calibrate(
        relaxations(calibration),
        level_of_theory="toy",
        optimizer="FIRE",
        fmax=0.1,
        windows=(0.2, 0.5),
    )


def test_recall_and_cost_increase_with_the_margin(rule):
    for points in rule.curves.values():
        recalls = [point.recall for point in points]
        costs = [point.cost for point in points]
        assert recalls == sorted(recalls)
        assert costs == sorted(costs)
        assert recalls[0] < 0.9 < recalls[-1]
        assert costs[0] < 0.6


def test_recall_on_other_relaxations(rule, calibration):
    quantile = rule.quantile_for(0.95, 0.2)
    bound = rule.bound(0.2, quantile)
    kept = good = stopped = bad = 0
    for trace in relaxations(calibration, 400, seed=1):
        is_stopped = any(
            bound(Curve(energies=list(trace.energies[: step + 1]))) for step in range(61)
        )
        if trace.ended <= 0.2:
            good, kept = good + 1, kept + (not is_stopped)
        else:
            bad, stopped = bad + 1, stopped + is_stopped
    assert kept / good > 0.9
    assert stopped / bad > 0.7


def test_reason_has_the_step(rule):
    first = rule.looks[0].step
    bound = rule.bound(-5.0, 1.0)
    curve = Curve(energies=[-3.0] * (first + 1))
    reason = bound(curve)
    assert f"after {first} steps" in reason
    assert bound(Curve(energies=[-3.0] * first)) is None
    assert bound(Curve(energies=[-5.1] * (first + 1))) is None


def test_no_quantile_for_a_recall_beyond_all_margins(rule):
    lossy = rule.model_copy(
        update={
            "curves": {
                name: tuple(p.model_copy(update={"recall": 0.9}) for p in points)
                for name, points in rule.curves.items()
            }
        }
    )
    assert lossy.quantile_for(0.95, 0.2) is None
    assert lossy.quantile_for(0.9, 0.2) == rule.quantiles[0]


def test_unsound_relaxations_count_for_cost_only(rule, calibration):
    unsound = [calibration.Trace(decay(2.0, 0.1, 0.1), None, "composition 1") for _ in range(50)]
    calibrated = calibration.calibrate(
        [*relaxations(calibration), *unsound],
        level_of_theory="toy",
        optimizer="FIRE",
        fmax=0.1,
        windows=(0.2,),
    )
    assert [look.margins for look in calibrated.looks] == [look.margins for look in rule.looks]
    assert calibrated.curves["0.2"][0].cost < rule.curves["0.2"][0].cost
