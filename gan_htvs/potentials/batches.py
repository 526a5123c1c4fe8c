"""Interatomic potentials that compute many structures at once, on one device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from gan_htvs.potentials.calculators import shipped_calculator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ase import Atoms

    Outcome: TypeAlias = SinglePointCalculator | Exception

_BROKEN_DEVICE = getattr(torch, "AcceleratorError", ())
"""After this nothing can be computed on the device any more; it has a name since PyTorch 2.8."""


class Batches:
    """A potential that computes structures in batches.

    Its memory is found out by filling it: when it runs out, batches get half as large.

    Parameters
    ----------
    calculator
        Computes ASE's properties of a batch: ``graph(atoms)`` makes of a structure what the
        network reads, ``size(graph)`` counts what decides how much memory it takes, and
        ``predict(graphs)`` returns eV, eV/A, eV/A^3 and Bohr magnetons of each.

    Attributes
    ----------
    largest
        Size of the largest batch.
    """

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator
        self.largest = math.inf

    def compute(self, structures: Sequence[Atoms]) -> list[Outcome]:
        """Compute structures, each as if it were alone.

        Returns
        -------
        For each a calculator that knows its energy, forces and stress, or what was raised on it.
        """
        outcomes: dict[int, Outcome] = {}
        graphs = {}
        for i, atoms in enumerate(structures):
            try:
                _require_finite(positions=atoms.positions, cell=atoms.cell.array)
                graphs[i] = self.calculator.graph(atoms)
            # Whatever a potential raises is one structure's.
            except Exception as error:  # noqa: BLE001
                outcomes[i] = error
        for batch in self._batches(graphs):
            for i, result in self._halved(batch).items():
                outcomes[i] = _known(structures[i], result)
        return [outcomes[i] for i in range(len(structures))]

    def _batches(self, graphs: Mapping[int, Any]) -> Iterator[dict[int, Any]]:
        batch: dict[int, Any] = {}
        filled = 0
        for i, graph in graphs.items():
            size = self.calculator.size(graph)
            if batch and filled + size > self.largest:
                yield batch
                batch, filled = {}, 0
            batch[i] = graph
            filled += size
        if batch:
            yield batch

    def _halved(self, batch: dict[int, Any]) -> dict[int, dict[str, Any] | Exception]:
        """Compute a batch, and of one that raises the halves, down to what is at fault."""
        try:
            return dict(zip(batch, self.calculator.predict(list(batch.values())), strict=True))
        except _BROKEN_DEVICE:
            raise
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                # Its frames hold what fills the memory.
                return dict.fromkeys(batch, error.with_traceback(None))
            if isinstance(error, torch.OutOfMemoryError):
                self.largest = sum(map(self.calculator.size, batch.values())) / 2
        names = list(batch)
        half = len(names) // 2
        return {
            name: result
            for part in (names[:half], names[half:])
            for name, result in self._halved({name: batch[name] for name in part}).items()
        }


def batches_of(name: str, device: str) -> Batches:
    """Load one of :data:`gan_htvs.potentials.calculators.SHIPPED` on a device of PyTorch.

    Raises
    ------
    UserError
        If it is not installed.
    """
    return Batches(shipped_calculator(name, device))


def _known(atoms: Atoms, result: dict[str, Any] | Exception) -> Outcome:
    if isinstance(result, Exception):
        return result
    try:
        _require_finite(**result)
    except ArithmeticError as error:
        return error
    calculator = SinglePointCalculator(atoms, **result)
    calculator.implemented_properties = list(result)
    return calculator


def _require_finite(**numbers: Any) -> None:
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise ArithmeticError(f"not finite: {name}")
