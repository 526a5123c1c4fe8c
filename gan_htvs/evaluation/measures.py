"""Measures of evaluated samples: shares, energies, displacements and diversity."""

from __future__ import annotations

from collections import Counter
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.core.statistics import Share
from gan_htvs.evaluation.evaluation_documents import (
    PERCENTS,
    AtThreshold,
    Draw,
    Measures,
    Outcome,
    Sample,
)
from gan_htvs.evaluation.structure_metrics import diversity
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_PER_HOUR = 3600.0

_MISMATCHES = (
    RejectionReason.WRONG_COMPOSITION,
    RejectionReason.WRONG_ATOM_ROWS,
    RejectionReason.EMPTY_ELEMENT,
)


def measure(
    draws: Sequence[Draw],
    samples: Sequence[Sample],
    thresholds: Sequence[float],
    *,
    held_out: int = 0,
    composition: str | None = None,
) -> Measures:
    """Compute the measures of the samples of one composition, or of all.

    Parameters
    ----------
    draws
        One for each composition.
    samples
        Samples of these compositions, with ``unique`` and ``novel`` set if they are sound.
    thresholds
        Energies above hull, eV/atom.
    held_out
        Number of held-out structures of these compositions.
    composition
        Composition of all draws; None: several.
    """
    tried = sum(draw.tried for draw in draws)
    rejections = sum((Counter(draw.rejections) for draw in draws), Counter[str]())
    before_declash = sum(sum(draw.before_declash.values()) for draw in draws)
    n_read = [draw.read for draw in draws if draw.read is not None]
    balanced = [draw.balanced for draw in draws if draw.balanced is not None]
    matched = tried - sum(rejections[reason] for reason in _MISMATCHES)
    decoded = sum(draw.decoded for draw in draws)
    valid = sum(s.flaw is None for s in samples) + rejections[RejectionReason.DUPLICATE]
    unique = sum(s.unique_as_generated for s in samples)
    relaxed = [sample for sample in samples if sample.outcome is not Outcome.NOT_RELAXED]
    sound = [sample for sample in relaxed if sample.outcome is Outcome.SOUND]
    energies = [s.decomposition_energy for s in sound if s.decomposition_energy is not None]
    displacements = [s.rmsd for s in sound if s.rmsd is not None]
    steps = [s.n_steps for s in relaxed if s.n_steps is not None]
    cpu_seconds = _cpu_seconds(relaxed)
    return Measures(
        composition=composition,
        read=Share(k=sum(n_read), n=tried) if len(n_read) == len(draws) else None,
        matched=Share(k=matched, n=tried),
        balanced=Share(k=sum(balanced), n=tried) if len(balanced) == len(draws) else None,
        valid_before_declash=Share(k=decoded - before_declash, n=matched),
        valid=Share(k=valid, n=matched),
        unique=Share(k=unique, n=valid),
        novel=Share(
            k=sum(s.unique_as_generated and s.novel_as_generated for s in samples), n=unique
        ),
        rediscovered=Share(k=_n_rediscovered(samples, "rediscovers_as_generated"), n=held_out),
        rediscovered_relaxed=Share(k=_n_rediscovered(samples, "rediscovers"), n=held_out),
        outcomes=Counter(sample.outcome for sample in relaxed),
        unique_relaxed=Share(k=sum(bool(s.unique) for s in sound), n=len(sound)),
        novel_relaxed=Share(k=sum(bool(s.novel) for s in sound), n=len(sound)),
        superimposed_relaxed=Share(k=len(displacements), n=len(sound)),
        thresholds=[
            _at(threshold, relaxed, cpu_seconds) for threshold in sorted(thresholds, reverse=True)
        ],
        energy_percentiles=(
            dict(zip(PERCENTS, np.percentile(energies, PERCENTS).tolist(), strict=True))
            if energies
            else {}
        ),
        mean_rmsd=mean(displacements) if displacements else None,
        diversity=diversity([s.structure for s in sound if s.structure is not None]),
        mean_steps=mean(steps) if steps else None,
        cpu_seconds=cpu_seconds,
    )


def _at(threshold: float, relaxed: Sequence[Sample], cpu_seconds: float | None) -> AtThreshold:
    sun = sum(sample.is_sun(threshold) for sample in relaxed)
    return AtThreshold(
        threshold=threshold,
        stable=Share(k=sum(s.is_stable(threshold) for s in relaxed), n=len(relaxed)),
        sun=Share(k=sun, n=len(relaxed)),
        sun_per_cpu_hour=sun * SECONDS_PER_HOUR / cpu_seconds if cpu_seconds else None,
    )


def _cpu_seconds(relaxed: Sequence[Sample]) -> float | None:
    """Add the processor times; None if one was not recorded, except those of failures."""
    started = [s for s in relaxed if s.outcome not in (Outcome.FAILED, Outcome.INVALID)]
    seconds = [s.cpu_seconds for s in started if s.cpu_seconds is not None]
    return sum(seconds) if seconds and len(seconds) == len(started) else None


def _n_rediscovered(samples: Sequence[Sample], field: str) -> int:
    return len({position for sample in samples for position in getattr(sample, field)})
