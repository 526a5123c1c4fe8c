"""Unique, confirmed crystals per core-hour: the prescreen against one job for each structure.

    python benchmarks/prescreen.py --samples 150 --output prescreen.json

takes raw samples of the shipped generator through both pipelines on the same cores:

* straightforward: `ForceFieldRelaxMaker` of atomate2 with CHGNet and its default settings, one job
  for each raw sample; converged or not, an end with sound geometry counts;
* prescreen: overlap removal, validity, symmetry, duplicates, relaxation with early stopping, second
  potential.

A crystal counts once, if its energy is within the window by CHGNet and SevenNet-0 confirms it; of
the straightforward pipeline, that confirmation and the start of its processes are not charged.
The prescreen runs before and after the many jobs, and its cost is the mean of both times.
After that all four proposers go through the prescreen, and the generator once more without early
stopping, for the recall. The default run takes about half an hour on two cores; jobs of the
straightforward pipeline are kept beside ``--journal``, so that a run that was killed goes on; some
that an earlier run left are timed once more, since machines have better and worse hours. No
structure is audited.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pipelines import SEED, WINDOWS, Run, prescreened, rules_of, straightforward
from samples import samples

from gan_htvs.core.stages import ProposerName, ScreeningStep
from gan_htvs.core.statistics import Share

RESAMPLES = 2000


def main() -> None:
    """Run all, print the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=36, help="of each proposer (default: 36)")
    parser.add_argument("--processes", type=int, default=2, help="cores (default: 2)")
    parser.add_argument("--journal", type=Path, default=Path("prescreen-jobs"))
    parser.add_argument("--output", type=Path, help="write all numbers here, as JSON")
    parser.add_argument("--only-generator", action="store_true", help="no other proposers")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    args.journal.mkdir(parents=True, exist_ok=True)
    rules = rules_of(args.journal, args.processes)
    generated = samples(ProposerName.GAN, args.samples, seed=SEED)

    before = prescreened("generator", generated, rules, args.processes)
    plain = straightforward(generated, rules, args.journal, args.processes)
    after = prescreened("generator", generated, rules, args.processes)
    ours = mean(before, after)
    report(ours, plain)
    full = prescreened("to the end", generated, replace(rules, recall=1.0), args.processes)
    runs = [ours, plain, full]
    if not args.only_generator:
        for name in (ProposerName.RANDOM, ProposerName.SYMMETRIC, ProposerName.SUBSTITUTION):
            found = samples(name, args.samples, seed=SEED)
            runs.append(prescreened(str(name), found, rules, args.processes))
    for run in runs:
        table(run)
    kept = [
        each.energy is not None
        for each, whole in zip(ours.outcomes, full.outcomes, strict=True)
        if whole.energy is not None
    ]
    recall = Share(k=sum(kept), n=len(kept))
    print(
        f"recall of early stopping: {spell(recall)}, cost {ours.cpu_seconds / full.cpu_seconds:.2f}"
    )
    if args.output:
        document = {"recall": recall.model_dump(), "runs": [asdict(run) for run in runs]}
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(claim(ours, plain)))


def mean(before: Run, after: Run) -> Run:
    """Average what the same run cost at two times: machines have better and worse hours."""
    for run in (before, after):
        print(f"{run.name}: {run.cpu_seconds:.0f} core-seconds")
    return replace(
        after,
        cpu_seconds=(before.cpu_seconds + after.cpu_seconds) / 2,
        wall_seconds=(before.wall_seconds + after.wall_seconds) / 2,
    )


def spell(share: Share) -> str:
    """Write a share with its Wilson interval."""
    value, (low, high) = share.value or 0.0, share.interval or (0.0, 0.0)
    return f"{share.k} of {share.n} ({value:.0%}, {100 * low:.0f}-{100 * high:.0f})"


def ratio_interval(ours: Run, plain: Run, window: float) -> tuple[float, float]:
    """95 % interval of the ratio of yields per core-hour, by resampling the samples."""
    rng = np.random.default_rng(0)
    hits = [
        np.array([o.energy is not None and o.energy <= window for o in run.outcomes])
        for run in (ours, plain)
    ]
    costs = [np.array([o.seconds for o in run.outcomes]) for run in (ours, plain)]
    # What belongs to no sample, such as the start of processes, is shared out.
    costs[0] = costs[0] * ours.cpu_seconds / costs[0].sum()
    ratios = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(hits[0]), size=len(hits[0]))
        ours_rate = hits[0][rows].sum() / costs[0][rows].sum()
        theirs = max(hits[1][rows].sum(), 0.5) / costs[1][rows].sum()
        ratios.append(ours_rate / theirs)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def report(ours: Run, plain: Run) -> None:
    """Compare the pipelines."""
    for window in WINDOWS:
        low, high = ratio_interval(ours, plain, window)
        here, there = ours.per_core_hour(window), plain.per_core_hour(window)
        print(
            f"within {window:g} eV/atom: {here:.1f} against {there:.2f} per core-hour, "
            f"{here / max(there, 1e-9):.1f} times ({low:.0f}-{high:.0f})"
        )


def table(run: Run) -> None:
    """Print where the samples of a run left, and what they cost."""
    n = len(run.outcomes)
    print(
        f"\n{run.name}: {n} samples, {run.cpu_seconds:.0f} core-seconds "
        f"({run.cpu_seconds / n:.1f} each), {run.wall_seconds:.0f} s"
    )
    for window in WINDOWS:
        print(f"  within {window:g}: {spell(run.found(window))}, "
              f"{run.per_core_hour(window):.1f} per core-hour")  # fmt: skip
    counts = Counter(outcome.left for outcome in run.outcomes)
    for left in [*map(str, ScreeningStep), "confirmed"]:
        if counts[left]:
            own = [outcome for outcome in run.outcomes if outcome.left == left]
            steps = np.mean([outcome.steps for outcome in own])
            seconds = np.mean([outcome.seconds for outcome in own])
            print(f"  {left:28} {counts[left]:4} {steps:6.1f} steps {seconds:6.1f} s")


def claim(ours: Run, plain: Run) -> dict[str, Any]:
    """State the claim."""
    window = max(WINDOWS)
    value, baseline = ours.per_core_hour(window), plain.per_core_hour(window)
    return {
        "claim": "unique, confirmed crystals within 0.2 eV/atom per core-hour, against "
        f"ForceFieldRelaxMaker one job each, {len(ours.outcomes)} raw samples of the generator",
        "value": round(value, 2),
        "unit": "1/h",
        "baseline": round(baseline, 3),
        "ratio": round(value / baseline, 1) if baseline else None,
    }


if __name__ == "__main__":
    main()
