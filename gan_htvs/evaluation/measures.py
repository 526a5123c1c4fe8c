"""From samples to shares."""

from __future__ import annotations

from collections import Counter
from statistics import mean
from typing import TYPE_CHECKING

from gan_htvs.evaluation.documents import AtThreshold, Draw, Measures, Outcome, Sample
from gan_htvs.matching import UniqueStructures
from gan_htvs.share import Share
from gan_htvs.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_PER_HOUR = 3600.0

_MISMATCHES = (
    RejectionReason.WRONG_COMPOSITION,
    RejectionReason.WRONG_ATOM_ROWS,
    RejectionReason.EMPTY_ELEMENT,
)


def mark_unique(samples: Sequence[Sample]) -> None:
    """Set ``unique`` of the sound samples: the most stable of each group that matches."""
    sound = [sample for sample in samples if sample.fate is Outcome.SOUND]
    seen = UniqueStructures()
    for sample in sorted(sound, key=_energy_above_hull):
        sample.unique = seen.add(sample.structure)


def measure(
    draws: Sequence[Draw],
    samples: Sequence[Sample],
    thresholds: Sequence[float],
    *,
    composition: str | None = None,
) -> Measures:
    """Count what the samples of one composition, or of all, are worth.

    Parameters
    ----------
    draws
        One for each composition that counts.
    samples
        Theirs, with ``unique`` and ``novel`` set on those that are sound.
    thresholds
        Distances from the hull, eV/atom.
    composition
        What the draws have in common.
    """
    tried = sum(draw.tried for draw in draws)
    rejections = sum((Counter(draw.rejections) for draw in draws), Counter[str]())
    before_push = sum(sum(draw.before_push.values()) for draw in draws)
    held_out = sum(draw.held_out for draw in draws)
    readings = [draw.read for draw in draws if draw.read is not None]
    matched = tried - sum(rejections[reason] for reason in _MISMATCHES)
    decoded = sum(draw.decoded for draw in draws)
    unique = len(samples)
    valid = unique + rejections[RejectionReason.DUPLICATE]
    relaxed = [sample for sample in samples if sample.fate is not Outcome.NOT_RELAXED]
    sound = [sample for sample in relaxed if sample.fate is Outcome.SOUND]
    steps = [s.n_steps for s in relaxed if s.n_steps is not None]
    seconds = [s.cpu_seconds for s in relaxed if s.cpu_seconds is not None]
    n_ended = sum(sample.fate is not Outcome.FAILED for sample in relaxed)
    cpu_seconds = sum(seconds) if seconds and len(seconds) == n_ended else None
    return Measures(
        composition=composition,
        read=Share(k=sum(readings), n=tried) if len(readings) == len(draws) else None,
        matched=Share(k=matched, n=tried),
        balanced=Share(k=sum(draw.balanced for draw in draws), n=tried),
        valid_before_push=Share(k=decoded - before_push, n=matched),
        valid=Share(k=valid, n=matched),
        unique=Share(k=unique, n=valid),
        novel=Share(k=sum(s.novel_as_generated for s in samples), n=unique),
        rediscovered=Share(k=_found(samples, "rediscovers_as_generated"), n=held_out),
        rediscovered_relaxed=Share(k=_found(samples, "rediscovers"), n=held_out),
        fates=Counter(sample.fate for sample in relaxed),
        unique_relaxed=Share(k=sum(bool(s.unique) for s in sound), n=len(sound)),
        novel_relaxed=Share(k=sum(bool(s.novel) for s in sound), n=len(sound)),
        thresholds=[
            _at(threshold, relaxed, cpu_seconds) for threshold in sorted(thresholds, reverse=True)
        ],
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


def _found(samples: Sequence[Sample], field: str) -> int:
    return len({position for sample in samples for position in getattr(sample, field)})


def _energy_above_hull(sample: Sample) -> float:
    if sample.energy_above_hull is None:
        raise ValueError(f"sample {sample.index} of {sample.composition} is sound without energy")
    return sample.energy_above_hull
