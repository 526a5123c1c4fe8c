"""Measure recall and cost of early stopping, by window.

Relaxes structures of all four proposers completely, calibrates the margins of
:mod:`gan_htvs.prescreen.stopping` with them, and evaluates the margins by cross-validation over
compositions. ``--rule FILE`` writes the rule in the format of the package. The relaxations are
kept in ``--journal``: an interrupted run resumes, and more ``--samples`` are added.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from calibration import Trace, calibrate
from matplotlib.figure import Figure
from samples import Sampled, samples

from gan_htvs.core.stages import ProposerName
from gan_htvs.core.statistics import Share
from gan_htvs.potentials.relaxation import RelaxationCache, Relaxations, relax_many
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work
from gan_htvs.structures.symmetry import symmetrize
from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from gan_htvs.core.candidate import RelaxationResult
    from gan_htvs.prescreen.stopping import StoppingRule
    from gan_htvs.thermodynamics.hull import ReferenceSet

SEED = 7
SYMMETRY_TOLERANCE = 0.1
RECALL = 0.9
WINDOW = 0.2


def main() -> None:
    """Relax, calibrate the rule, and print its curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=31, help="of each proposer")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--optimizer", default="CellAwareBFGS")
    parser.add_argument("--journal", type=Path, default=Path("stopping"))
    parser.add_argument("--rule", type=Path, help="write the rule here")
    parser.add_argument("--figure", type=Path, help="draw recall against cost here")
    args = parser.parse_args()
    settings = PotentialSettings(
        name=args.potential, optimizer=args.optimizer, symmetry_tolerances=()
    )
    sampled = [s for name in ProposerName for s in samples(name, args.samples, seed=SEED)]
    args.journal.mkdir(exist_ok=True, parents=True)
    relaxations = relax_all(sampled, settings, args.journal / "relaxations.jsonl", args.processes)
    references = relax_references(settings, args.journal, args.processes)
    traces = [trace(sample, relaxation, references) for sample, relaxation in relaxations]
    rule = calibrate(
        traces,
        level_of_theory=references.level_of_theory,
        optimizer=settings.optimizer,
        fmax=settings.fmax,
        data=f"{len(traces)} structures of {', '.join(ProposerName)}, seed {SEED}",
    )
    report(rule, traces)
    if args.figure:
        draw(rule, args.figure)
    if args.rule:
        args.rule.write_text(rule.model_dump_json(indent=1) + "\n", encoding="utf-8")


def draw(rule: StoppingRule, path: Path) -> None:
    """Draw recall against cost, with Wilson intervals."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for window, points in rule.curves.items():
        shares = [Share(k=round(p.recall * p.n_within), n=p.n_within) for p in points]
        value = np.array([p.recall for p in points])
        low, high = np.array([share.interval for share in shares]).T
        axes.errorbar(
            [p.cost for p in points],
            value,
            np.abs([value - low, high - value]),
            marker="o",
            capsize=2,
            label=f"within {window} eV/atom ({points[0].n_within} of {rule.n_relaxations})",
        )
    axes.axhline(RECALL, color="gray", linewidth=0.8)
    axes.set_xlabel("steps, as a share of those of full relaxations")
    axes.set_ylabel("recall")
    axes.set_title(f"Early stopping: {rule.level_of_theory}, {rule.optimizer}", fontsize="medium")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def relax_all(
    sampled: list[Sampled], settings: PotentialSettings, journal: Path, n_processes: int
) -> list[tuple[Sampled, RelaxationResult]]:
    """Relax all structures completely, except those in the journal."""
    starts = [symmetrize(sample.declashed, SYMMETRY_TOLERANCE) for sample in sampled]
    results = relax_many(
        {str(number): Work(start, settings) for number, start in enumerate(starts)},
        RelaxationCache(journal),
        n_processes=n_processes,
        on_progress=lambda done, total: print(f"\r{done} of {total} relaxed", end="", flush=True),
    )
    return list(zip(sampled, results.values(), strict=True))


def relax_references(settings: PotentialSettings, folder: Path, n_processes: int) -> ReferenceSet:
    """Relax the reference phases."""
    relaxations = Relaxations(
        settings, journal=folder / "references.jsonl", n_processes=n_processes
    )
    return relaxations.references(reference_phases(("Mg", "Mn", "O")))


def trace(sample: Sampled, relaxation: RelaxationResult, references: ReferenceSet) -> Trace:
    """Return the energies above hull of a relaxation."""
    composition = sample.declashed.composition
    hull = references.hull_energy(composition)
    energies = [energy - hull for energy in relaxation.curve.energies]
    converged = relaxation.relaxed is not None and relaxation.relaxed.converged
    return Trace(energies, energies[-1] if converged else None, composition.reduced_formula)


def report(rule: StoppingRule, traces: list[Trace]) -> None:
    """Print the curves and the claim."""
    ended = [t.ended for t in traces if t.ended is not None]
    print(
        f"\n{len(traces)} relaxed, {len(ended)} converged, "
        f"{sum(e <= WINDOW for e in ended)} within {WINDOW:g}"
    )
    for window, points in rule.curves.items():
        for point in points:
            print(
                f"window {window}: {point.quantile:5.3f} recall {point.recall:.3f} "
                f"cost {point.cost:.3f}"
            )
    quantile = rule.quantile_for(RECALL, WINDOW)
    (point,) = [p for p in rule.curves[f"{WINDOW:g}"] if p.quantile == quantile]
    print(json.dumps({
        "claim": f"steps saved by stopping early, {point.recall:.2f} of the structures within "
                 f"{WINDOW:g} eV/atom kept",
        "value": round(point.cost, 3), "unit": "share of steps", "baseline": 1.0,
        "ratio": round(1 / point.cost, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
