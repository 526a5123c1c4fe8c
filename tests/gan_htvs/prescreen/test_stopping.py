from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.core.candidate import Curve
from gan_htvs.prescreen.stopping import LOOKS, StoppingRule, Trace, calibrate, shipped_rule


def decay(ended: float, height: float, speed: float, n_steps: int = 60) -> list[float]:
    return (ended + height * np.exp(-speed * np.arange(n_steps + 1))).tolist()


def relaxations(n: int = 200, seed: int = 0) -> list[Trace]:
    """Generate exponential decays that end between 0 and 1 eV/atom above the hull."""
    rng = np.random.default_rng(seed)
    traces = []
    for i in range(n):
        ended = float(rng.uniform(0, 1))
        energies = decay(ended, float(rng.uniform(0.1, 1)), float(rng.uniform(0.05, 0.3)))
        traces.append(Trace(energies, energies[-1], f"composition {i % 20}"))
    return traces


@pytest.fixture(scope="module")
def rule() -> StoppingRule:
    return calibrate(
        relaxations(), level_of_theory="toy", optimizer="FIRE", fmax=0.1, windows=(0.2, 0.5)
    )


def test_recall_and_cost_increase_with_the_margin(rule):
    for points in rule.curves.values():
        recalls = [point.recall for point in points]
        costs = [point.cost for point in points]
        assert recalls == sorted(recalls)
        assert costs == sorted(costs)
        assert recalls[0] < 0.9 < recalls[-1]
        assert costs[0] < 0.6


def test_recall_on_other_relaxations(rule):
    quantile = rule.quantile_for(0.95, 0.2)
    bound = rule.bound(0.2, quantile)
    kept = good = stopped = bad = 0
    for trace in relaxations(400, seed=1):
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
    bound = rule.bound(-5.0, 1.0)
    curve = Curve(energies=[-3.0] * (LOOKS[0] + 1))
    reason = bound(curve)
    assert f"after {LOOKS[0]} steps" in reason
    assert bound(Curve(energies=[-3.0] * LOOKS[0])) is None
    assert bound(Curve(energies=[-5.1] * (LOOKS[0] + 1))) is None


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


def test_unsound_relaxations_count_for_cost_only(rule):
    unsound = [Trace(decay(2.0, 0.1, 0.1), None, "composition 1") for _ in range(50)]
    calibrated = calibrate(
        [*relaxations(), *unsound],
        level_of_theory="toy",
        optimizer="FIRE",
        fmax=0.1,
        windows=(0.2,),
    )
    assert [look.margins for look in calibrated.looks] == [look.margins for look in rule.looks]
    assert calibrated.curves["0.2"][0].cost < rule.curves["0.2"][0].cost


def test_no_shipped_rule_for_other_settings():
    assert shipped_rule("CHGNet-0.3.0", "FIRE", 0.1) is None
    assert shipped_rule("SevenNet-0+MP2020", "CellAwareBFGS", 0.1) is None
    assert shipped_rule("CHGNet-0.3.0", "CellAwareBFGS", 0.02) is None


def test_recall_of_the_shipped_rule():
    from gan_htvs.prescreen.prescreen_settings import PrescreenSettings

    rule = shipped_rule("CHGNet-0.3.0", "CellAwareBFGS", 0.1)
    quantile = rule.quantile_for(PrescreenSettings().recall, 0.2)
    (point,) = [p for p in rule.curves["0.2"] if p.quantile == quantile]
    assert point.recall >= 0.9
    assert point.cost < 1
    assert rule.n_relaxations >= 150
