"""Relaxations on one GPU: forces of all structures are computed together in each step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from gan_htvs.core.errors import UserError
from gan_htvs.potentials.calculators import SEVENNET_MODELS, SHIPPED
from gan_htvs.potentials.relaxer import StepwiseRelaxation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gan_htvs.core.candidate import RelaxationResult
    from gan_htvs.potentials.batches import Batches
    from gan_htvs.potentials.relaxer import Work
    from gan_htvs.prescreen.prescreen_settings import Device


def is_batched(name: str, device: Device) -> bool:
    """Return whether a potential relaxes on a GPU.

    Raises
    ------
    UserError
        If a GPU is requested and there is none.
    """
    if device == "cpu" or name not in SHIPPED:
        return False
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "prescreen.device: 'cuda', but PyTorch finds no GPU; run the prescreen on a machine "
            "with a GPU, install PyTorch with CUDA, or set 'auto'."
        )
    # CHGNet's graphs are the bottleneck on a GPU: three cores are as fast.
    return device == "cuda" or (name in SEVENNET_MODELS and torch.cuda.is_available())


def relax_batched(
    work: Mapping[str, Work], potential: Batches
) -> Iterator[tuple[str, RelaxationResult]]:
    """Relax structures with one potential and yield each result when it is finished.

    The steps are those of :func:`gan_htvs.potentials.relaxer.relax`; energies and forces differ
    only in the last digits. If the potential raises, only that structure ends.

    Parameters
    ----------
    work
        Arguments of :func:`gan_htvs.potentials.relaxer.relax`, by key.
    potential
        The potential.

    Yields
    ------
    Key and result of each structure.
    """
    clock = _SharedClock()
    active = {key: StepwiseRelaxation(piece, clock) for key, piece in work.items()}
    while True:
        for key, stepwise in list(active.items()):
            if stepwise.relaxation is not None:
                del active[key]
                yield key, stepwise.relaxation
        if not active:
            return
        outcomes = potential.compute([stepwise.atoms for stepwise in active.values()])
        clock.tick(len(active))
        for stepwise, outcome in zip(active.values(), outcomes, strict=True):
            stepwise.advance(outcome)


class _SharedClock:
    """Processor time of this process, divided equally among active structures, s."""

    def __init__(self) -> None:
        self._shared = 0.0
        self._before = time.process_time()

    def __call__(self) -> float:
        return self._shared

    def tick(self, n_sharing: int) -> None:
        now = time.process_time()
        self._shared += (now - self._before) / n_sharing
        self._before = now
