from __future__ import annotations

import pytest

from gan_htvs.core.candidate import Confirmation, PrescreenVerdict
from gan_htvs.core.stages import ScreeningStep
from gan_htvs.prescreen.summary import summarize


def record(rejected_at=None, **fields):
    return PrescreenVerdict(rejected_at=rejected_at, **fields)


def audited(rejected_at):
    return record(rejected_at, is_audited=True, would_stop_at=10)


def confirmed(rejected_at=None):
    confirmation = Confirmation(
        level_of_theory="another",
        energy_per_atom=-5,
        decomposition_energy=0.1,
        disagreement=0.0,
        n_steps=3,
        cpu_seconds=0.5,
    )
    return record(rejected_at, n_steps=40, cpu_seconds=4.0, confirmation=confirmation)


def test_counts_and_cost_by_step():
    summary = summarize(
        [
            record(ScreeningStep.VALIDITY),
            record(ScreeningStep.STOPPING, n_steps=10, cpu_seconds=1.5),
            record(ScreeningStep.STOPPING, n_steps=5, cpu_seconds=1.0),
            confirmed(ScreeningStep.CONFIRMATION),
            confirmed(),
        ]
    )
    parts = {part.rejected_at: part[1:] for part in summary.parts}
    assert list(parts) == [*ScreeningStep, None]
    assert parts[ScreeningStep.VALIDITY] == (1, 0, 0)
    assert parts[ScreeningStep.STOPPING] == (2, 15, 2.5)
    assert parts[ScreeningStep.CONFIRMATION] == parts[None] == (1, 43, 4.5)
    assert summary.total[1:] == (5, 101, 11.5)


def test_losses_are_estimated_from_the_audit():
    kept = [
        audited(None),
        audited(ScreeningStep.RELAXED_DUPLICATE),
        audited(ScreeningStep.CONFIRMATION),
    ]
    rest = [audited(ScreeningStep.WINDOW)] * 5 + [
        audited(ScreeningStep.GEOMETRY),
        audited(ScreeningStep.RELAXATION),
    ]
    others = [record(is_audited=True)] * 7  # not stopped by the rule
    stopped = [record(ScreeningStep.STOPPING, would_stop_at=10)] * 50
    summary = summarize(kept + rest + others + stopped)
    assert (summary.audit.k, summary.audit.n, summary.n_stopped) == (3, 10, 50)
    # Wilson score interval.
    z, p, n = 1.959964, 0.3, 10
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert summary.lost == pytest.approx((15, 50 * (middle - half), 50 * (middle + half)), 1e-5)


def test_no_estimate_without_an_audit():
    assert summarize([record(ScreeningStep.STOPPING, would_stop_at=10), record()]).lost is None
    assert summarize([]).total.n == 0
