"""Measure unique, confirmed crystals per core-hour: the prescreen, and one job for each structure.

    python benchmarks/prescreen.py --samples 150 --output prescreen.json

runs raw samples of the shipped generator through both pipelines on the same cores:

* straightforward: `ForceFieldRelaxMaker` of atomate2 with CHGNet and its default settings, one job
  for each raw sample; final structures with valid geometry count, converged or not;
* prescreen: overlap removal, validity, symmetry, duplicates, relaxation with early stopping, second
  potential.

A crystal counts once, if its CHGNet energy is within the window and SevenNet-0 confirms it. For the
straightforward pipeline, confirmation and start of processes are not charged. The prescreen runs
before and after the single jobs, and its cost is the mean of both. Then all four proposers are
prescreened, and the samples of the generator again without early stopping, for the recall. The
default run takes about half an hour on two cores. Jobs of the straightforward pipeline are kept in
``--journal``, so an interrupted run resumes; some of the kept jobs are timed again, because the
load of the machine may differ. No structure is audited.
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
    """Run all pipelines; print the tables and one line of JSON."""
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
    prescreen = mean(before, after)
    print_comparison(prescreen, plain)
    full = prescreened(
        "without early stopping", generated, replace(rules, recall=1.0), args.processes
    )
    runs = [prescreen, plain, full]
    if not args.only_generator:
        for name in (ProposerName.RANDOM, ProposerName.SYMMETRIC, ProposerName.SUBSTITUTION):
            sampled = samples(name, args.samples, seed=SEED)
            runs.append(prescreened(str(name), sampled, rules, args.processes))
    for run in runs:
        print_table(run)
    kept = [
        stopped.energy is not None
        for stopped, complete in zip(prescreen.outcomes, full.outcomes, strict=True)
        if complete.energy is not None
    ]
    recall = Share(k=sum(kept), n=len(kept))
    cost = prescreen.cpu_seconds / full.cpu_seconds
    print(f"recall of early stopping: {format_share(recall)}, cost {cost:.2f}")
    if args.output:
        document = {"recall": recall.model_dump(), "runs": [asdict(run) for run in runs]}
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(claim(prescreen, plain)))


def mean(before: Run, after: Run) -> Run:
    """Return a run with the mean cost of two runs, because the load of the machine may differ."""
    for run in (before, after):
        print(f"{run.name}: {run.cpu_seconds:.0f} core-seconds")
    return replace(
        after,
        cpu_seconds=(before.cpu_seconds + after.cpu_seconds) / 2,
        wall_seconds=(before.wall_seconds + after.wall_seconds) / 2,
    )


def format_share(share: Share) -> str:
    """Format a share with its Wilson interval."""
    value, (low, high) = share.value or 0.0, share.interval or (0.0, 0.0)
    return f"{share.k} of {share.n} ({value:.0%}, {100 * low:.0f}-{100 * high:.0f})"


def ratio_interval(prescreen: Run, plain: Run, window: float) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of yields per core-hour, by bootstrap."""
    rng = np.random.default_rng(0)
    hits = [
        np.array([o.energy is not None and o.energy <= window for o in run.outcomes])
        for run in (prescreen, plain)
    ]
    costs = [np.array([o.seconds for o in run.outcomes]) for run in (prescreen, plain)]
    # Costs of no single sample, such as the start of processes, are distributed over all.
    costs[0] = costs[0] * prescreen.cpu_seconds / costs[0].sum()
    ratios = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(hits[0]), size=len(hits[0]))
        prescreen_rate = hits[0][rows].sum() / costs[0][rows].sum()
        plain_rate = max(hits[1][rows].sum(), 0.5) / costs[1][rows].sum()
        ratios.append(prescreen_rate / plain_rate)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def print_comparison(prescreen: Run, plain: Run) -> None:
    """Print the yields of both pipelines."""
    for window in WINDOWS:
        low, high = ratio_interval(prescreen, plain, window)
        value, baseline = prescreen.per_core_hour(window), plain.per_core_hour(window)
        print(
            f"within {window:g} eV/atom: {value:.1f} against {baseline:.2f} per core-hour, "
            f"{value / max(baseline, 1e-9):.1f} times ({low:.0f}-{high:.0f})"
        )


def print_table(run: Run) -> None:
    """Print the numbers of samples by the step that rejected them, with their cost."""
    n = len(run.outcomes)
    print(
        f"\n{run.name}: {n} samples, {run.cpu_seconds:.0f} core-seconds "
        f"({run.cpu_seconds / n:.1f} each), {run.wall_seconds:.0f} s"
    )
    for window in WINDOWS:
        print(f"  within {window:g}: {format_share(run.share_within(window))}, "
              f"{run.per_core_hour(window):.1f} per core-hour")  # fmt: skip
    counts = Counter(outcome.status for outcome in run.outcomes)
    for status in [*map(str, ScreeningStep), "confirmed"]:
        if counts[status]:
            outcomes = [outcome for outcome in run.outcomes if outcome.status == status]
            steps = np.mean([outcome.steps for outcome in outcomes])
            seconds = np.mean([outcome.seconds for outcome in outcomes])
            print(f"  {status:28} {counts[status]:4} {steps:6.1f} steps {seconds:6.1f} s")


def claim(prescreen: Run, plain: Run) -> dict[str, Any]:
    """Return the claim of this benchmark."""
    window = max(WINDOWS)
    value, baseline = prescreen.per_core_hour(window), plain.per_core_hour(window)
    return {
        "claim": "unique, confirmed crystals within 0.2 eV/atom per core-hour, against "
        f"ForceFieldRelaxMaker one job each, {len(prescreen.outcomes)} samples of the generator",
        "value": round(value, 2),
        "unit": "1/h",
        "baseline": round(baseline, 3),
        "ratio": round(value / baseline, 1) if baseline else None,
    }


if __name__ == "__main__":
    main()
