"""Compare the quality of training in bfloat16 and float32 with several seeds.

    python benchmarks/training_quality.py --steps 2000 --seeds 0 1 2 --output quality

trains on the offline Mg-Mn-O data set, one run per seed and arithmetic, and prints for each of the
two the mean and the range over the seeds of

* the Wasserstein estimate E[D(real)] - E[D(fake)], mean over the last tenth of the steps;
* the share of samples from which the classifier reads the requested composition;
* the share of samples whose rows that the classifier calls atoms have this composition;
* the share of samples whose rows that are decoded as atoms have this composition.

and the p-value of the Mann-Whitney test.

Every run is one file in the output folder: finished runs are not repeated, and interrupted ones
resume from their last checkpoint.

Processors without bfloat16 instructions take many times as long; with ``--emulate`` products are
multiplied and summed in float32, as by these instructions.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch.utils._python_dispatch import TorchDispatchMode

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.files import write_atomically
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.presets import PRESETS, training_parameters
from gan_htvs.generator.training import train
from gan_htvs.structures.point_cloud import decode

if TYPE_CHECKING:
    from gan_htvs.generator.checkpoint import TrainedGenerator

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
OXIDATION_STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}
MEASURES = ("wasserstein", "counts_read", "rows_read", "rows_decoded")
N_SAMPLES = 4096
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default}


class WideProducts(TorchDispatchMode):
    """Compute products of bfloat16 matrices in float32, and round them to bfloat16."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation."""
        if function in PRODUCTS and args[-1].dtype == torch.bfloat16:
            return function(*(tensor.float() for tensor in args), **(kwargs or {})).bfloat16()
        return function(*args, **(kwargs or {}))


def main() -> None:
    """Run the benchmark."""
    options = _parse()
    torch.set_num_threads(1)
    with WideProducts() if options.emulate else nullcontext():
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run the missing trainings, then print the comparison."""
    overrides = {"width": options.width, "critic_steps": options.critic_steps}
    overrides |= {name: float(value) for name, value in options.override}
    parameters = training_parameters(options.preset, overrides)
    requested = np.array(list(SYSTEM.compositions(OXIDATION_STATES)))
    dataset = None
    results: dict[str, list[dict[str, Any]]] = {precision: [] for precision in options.precisions}
    for seed in options.seeds:
        for precision in options.precisions:
            path = options.output / f"{precision}-{seed}.json"
            setting = {
                "parameters": asdict(parameters),
                "steps": options.steps,
                "seed": seed,
                "precision": precision,
                "emulated": options.emulate and precision == "bfloat16",
            }
            if path.exists():
                result = json.loads(path.read_text())
                if {key: result[key] for key in setting} != setting:
                    raise SystemExit(f"{path}: other settings; use another --output.")
            else:
                if dataset is None:
                    dataset = build_dataset(SYSTEM, OXIDATION_STATES, DatasetSettings())
                started = time.monotonic()
                trained = train(
                    dataset.images,
                    dataset.counts,
                    SYSTEM,
                    parameters,
                    max_steps=options.steps,
                    seed=seed,
                    conditions=requested,
                    device="cpu",
                    precision=precision,
                    checkpoint_path=path.with_suffix(".safetensors"),
                    on_progress=lambda entry, path=path: _print_progress(
                        path, entry, options.steps
                    ),
                )
                result = {**setting, **evaluate(trained, requested), "seconds": trained.seconds}
                write_atomically(path, json.dumps(result, indent=1).encode())
                path.with_suffix(".safetensors").unlink()
                print(f"{path}: done in {time.monotonic() - started:.0f} s", flush=True)
            results[precision].append(result)
    _report(results)


def evaluate(trained: TrainedGenerator, requested: np.ndarray) -> dict[str, float]:
    """Measure a generator; ``requested`` (m, n_elements) are the compositions, used in turn."""
    last = trained.history[-max(1, len(trained.history) // 10) :]
    counts = np.resize(requested, (N_SAMPLES, requested.shape[1]))
    noise = torch.randn(
        N_SAMPLES, trained.parameters.noise_dim, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        images = trained.generator(noise, torch.as_tensor(counts))
        readings = trained.classifier(images)
    read = np.stack([reading.counts.argmax(dim=1).numpy() + 1 for reading in readings], axis=1)
    rows = np.stack(
        [reading.atoms.argmax(dim=2).sum(dim=1).numpy() for reading in readings], axis=1
    )
    decoded = decode(images.numpy(), trained.system).counts
    return {
        "wasserstein": float(np.mean([entry["wasserstein"] for entry in last])),
        "counts_read": float((read == counts).all(axis=1).mean()),
        "rows_read": float((rows == counts).all(axis=1).mean()),
        "rows_decoded": float((decoded == counts).all(axis=1).mean()),
    }


def _print_progress(path: Path, entry: dict[str, float], steps: int) -> None:
    if entry["step"] % 100 == 0:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")
        print(f"{path.stem}: step {entry['step']:.0f} of {steps}, {losses}", flush=True)


def _report(results: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{'measure':<14}" + "".join(f"{name:>32}" for name in results) + f"{'p':>8}")
    summary: dict[str, Any] = {}
    for measure in MEASURES:
        both = summary[measure] = {
            precision: [run[measure] for run in runs] for precision, runs in results.items()
        }
        cells = [
            f"{np.mean(values):>14.4f} [{min(values):.4f}, {max(values):.4f}]".rjust(32)
            for values in both.values()
        ]
        if len(both) > 1:
            cells.append(f"{mannwhitneyu(*both.values()).pvalue:>8.2f}")
        print(f"{measure:<14}{''.join(cells)}")
    print(json.dumps(summary))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare bfloat16 with float32 training.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--preset", choices=list(PRESETS), default="paper")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--critic-steps", type=int, default=5)
    parser.add_argument(
        "--override", nargs=2, action="append", default=[], metavar=("PARAMETER", "NUMBER")
    )
    parser.add_argument("--emulate", action="store_true", help="emulate bfloat16 instructions")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
