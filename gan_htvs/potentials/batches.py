"""Interatomic potentials that compute batches of structures on one device."""

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
"""Error after which the device is unusable; PyTorch has it since version 2.8."""


class Batches:
    """Potential that computes structures in batches.

    The size of batches is halved whenever the device runs out of memory.

    Parameters
    ----------
    calculator
        Computes properties of batches: ``graph(atoms)`` returns the input of the network,
        ``size(graph)`` its size in memory, in any unit, and ``predict(graphs)`` the properties of
        each structure, in the units of ASE.

    Attributes
    ----------
    largest
        Size of the largest batch.
    """

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator
        self.largest = math.inf

    def compute(self, structures: Sequence[Atoms]) -> list[Outcome]:
        """Compute structures; an error of one does not affect the others.

        Returns
        -------
        For each structure a calculator with its energy, forces and stress, or the error.
        """
        outcomes: dict[int, Outcome] = {}
        graphs = {}
        for i, atoms in enumerate(structures):
            try:
                _check_finite(positions=atoms.positions, cell=atoms.cell.array)
                graphs[i] = self.calculator.graph(atoms)
            # Potentials may raise anything; other structures go on.
            except Exception as error:  # noqa: BLE001
                outcomes[i] = error
        for batch in self._batches(graphs):
            for i, result in self._compute(batch).items():
                outcomes[i] = _outcome(structures[i], result)
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

    def _compute(self, batch: dict[int, Any]) -> dict[int, dict[str, Any] | Exception]:
        """Compute a batch; if it raises, divide it until only failing structures raise."""
        try:
            return dict(zip(batch, self.calculator.predict(list(batch.values())), strict=True))
        except _BROKEN_DEVICE:
            raise
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                # The frames of the traceback would keep tensors in memory.
                return dict.fromkeys(batch, error.with_traceback(None))
            if isinstance(error, torch.OutOfMemoryError):
                self.largest = sum(map(self.calculator.size, batch.values())) / 2
        names = list(batch)
        half = len(names) // 2
        return {
            name: result
            for part in (names[:half], names[half:])
            for name, result in self._compute({name: batch[name] for name in part}).items()
        }


def batches_of(name: str, device: str) -> Batches:
    """Load one of :data:`gan_htvs.potentials.calculators.SHIPPED` on a device of PyTorch.

    Raises
    ------
    UserError
        If it is not installed.
    """
    return Batches(shipped_calculator(name, device))


def _outcome(atoms: Atoms, result: dict[str, Any] | Exception) -> Outcome:
    if isinstance(result, Exception):
        return result
    try:
        _check_finite(**result)
    except ArithmeticError as error:
        return error
    calculator = SinglePointCalculator(atoms, **result)
    calculator.implemented_properties = list(result)
    return calculator


def _check_finite(**numbers: Any) -> None:
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise ArithmeticError(f"not finite: {name}")
