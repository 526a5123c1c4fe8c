"""Relaxations on one GPU: all forces are computed at once, then each structure takes its step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from gan_htvs.descent import Descending
from gan_htvs.errors import UserError
from gan_htvs.potentials import SEVENNET_MODELS, SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gan_htvs.batches import Batches
    from gan_htvs.descent import Descent, Work
    from gan_htvs.prescreen.settings import Device


def is_batched(name: str, device: Device) -> bool:
    """Whether a potential relaxes on a GPU.

    Raises
    ------
    UserError
        If it is to, and there is none.
    """
    if device == "cpu" or name not in SHIPPED:
        return False
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "prescreen.device: 'cuda', and PyTorch sees no GPU here; run the prescreen where there "
            "is one, install PyTorch with CUDA, or let it be 'auto'."
        )
    # What one process prepares for CHGNet on a GPU, three compute on their cores.
    return device == "cuda" or (name in SEVENNET_MODELS and torch.cuda.is_available())


def relax_batched(work: Mapping[str, Work], potential: Batches) -> Iterator[tuple[str, Descent]]:
    """Relax structures with one potential and yield each as it ends.

    The steps are those of :func:`gan_htvs.descent.descend`, whose energies and forces differ in
    the last digits only; a structure on which the potential raises ends alone.

    Parameters
    ----------
    work
        Arguments of :func:`gan_htvs.descent.descend`, by key.
    potential
        That of all of them.

    Yields
    ------
    Keys and what came of each.
    """
    clock = _SharedClock()
    going = {
        key: Descending(structure, settings, stop=stop, audited=audited, clock=clock)
        for key, (structure, settings, stop, audited) in work.items()
    }
    while True:
        for key, each in list(going.items()):
            if each.descent is not None:
                del going[key]
                yield key, each.descent
        if not going:
            return
        outcomes = potential.compute([each.atoms for each in going.values()])
        clock.tick(len(going))
        for each, outcome in zip(going.values(), outcomes, strict=True):
            each.advance(outcome)


class _SharedClock:
    """Processor time of this process, of which all that are at work take equal shares, s."""

    def __init__(self) -> None:
        self._shared = 0.0
        self._before = time.process_time()

    def __call__(self) -> float:
        return self._shared

    def tick(self, n_sharing: int) -> None:
        now = time.process_time()
        self._shared += (now - self._before) / n_sharing
        self._before = now
