"""Time training steps against the convolutional layers of the paper.

    python benchmarks/training.py

measures complete generator steps, each with five critic steps (including the gradient penalty) and
six classifier steps, of the full-width ``paper`` preset at batch 32 on one thread, with the offline
Mg-Mn-O data set: the package in float32 and in the precision that ``"auto"`` selects for this
processor, and ``conv_baseline.py`` in float32. The three take turns, and the medians of their
processor times are compared.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from conv_baseline import ConvTraining, copy_weights

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.augmentation import TrainingImages
from gan_htvs.generator.checkpoint import TrainingState
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.processor import Processor
from gan_htvs.generator.training import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
OXIDATION_STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}
WARM_UP = 2


def main() -> None:
    """Time the three and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description="Time training steps.")
    parser.add_argument("--repeats", type=int, default=15, help="steps of each")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)

    dataset = build_dataset(SYSTEM, OXIDATION_STATES, DatasetSettings())
    data = TrainingImages(dataset.images, dataset.counts, SYSTEM)
    conditions = torch.tensor(list(SYSTEM.compositions(OXIDATION_STATES)))
    parameters = PRESETS["paper"]
    auto = Processor.choose("cpu")
    processors = {str(p): p for p in (Processor.choose("cpu", "float32"), auto)}
    trainers = {
        name: Trainer(TrainingState.fresh(SYSTEM, parameters, 0), data, conditions, processor)
        for name, processor in processors.items()
    }
    baseline = ConvTraining(data, parameters, conditions, torch.Generator().manual_seed(0))
    copy_weights(TrainingState.fresh(SYSTEM, parameters, 0), baseline)

    steps: dict[str, Callable[[], object]] = {"convolutions, cpu float32": baseline.step}
    steps |= {f"gan-htvs, {name}": trainer.step for name, trainer in trainers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(WARM_UP + repeats):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if repeat >= WARM_UP:
                seconds[name].append(time.process_time() - started)

    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    print(
        f"{'generator step, batch 32, one thread':<40}{'median s':>10}{'fastest s':>11}{'ratio':>8}"
    )
    for name, median in medians.items():
        print(f"{name:<40}{median:>10.3f}{min(seconds[name]):>11.3f}{first / median:>8.2f}")
    seconds_each = medians[f"gan-htvs, {auto}"]
    print(
        json.dumps(
            {
                "claim": f"training step with critic, penalty and classifier, {auto}, one thread",
                "value": round(1 / seconds_each, 3),
                "unit": "generator steps per second of processor time",
                "baseline": round(1 / first, 3),
                "ratio": round(first / seconds_each, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
