"""SevenNet with energies without forces, which take most of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sevenn._keys as KEY  # noqa: N812 - as the package itself names it
from ase.calculators.calculator import Calculator, all_changes
from sevenn.atom_graph_data import AtomGraphData
from sevenn.calculator import SevenNetCalculator
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.data import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

FORCES = "force_output"
"""The last module of the network, which differentiates the energy by positions and strain."""


class LazySevenNet(SevenNetCalculator):
    """ASE calculator of SevenNet that only runs its backward pass if forces are requested.

    Parameters
    ----------
    model
        Name of the model in SevenNet; its weights are frozen.
    device
        Device of PyTorch.
    """

    def __init__(self, model: str, device: str) -> None:
        super().__init__(model, device=device)
        self.model.requires_grad_(False)
        self._graph_outputs: Any = None

    def graph(self, atoms: Atoms) -> AtomGraphData:
        """Build the input of the network from a structure.

        Raises
        ------
        ValueError
            If the network does not support an element.
        """
        self.set_atoms(atoms)
        return AtomGraphData.from_numpy_dict(
            unlabeled_atoms_to_graph(atoms, self.cutoff, with_shift=False)
        )

    def size(self, graph: AtomGraphData) -> int:
        """Count edges, which determine the memory of a graph."""
        return int(graph.num_edges)

    def predict(self, graphs: Sequence[AtomGraphData]) -> list[dict[str, Any]]:
        """Compute energy, forces and stress of each graph: eV, eV/A and eV/A^3."""
        batch = Batch.from_data_list(list(graphs)).to(self.device)
        n_atoms = batch["num_atoms"].tolist()
        self.model.set_is_batch_data(True)
        output = self.model(batch)
        self.model.set_is_batch_data(False)
        energies, forces, stresses = (
            output[key].detach().cpu().numpy()
            for key in (KEY.PRED_TOTAL_ENERGY, KEY.PRED_FORCE, KEY.PRED_STRESS)
        )
        return [
            # The stress of SevenNet has the opposite sign, and the order xx, yy, zz, xy, yz, zx.
            {"energy": float(energy), "forces": force, "stress": -stress[[0, 1, 2, 4, 5, 3]]}
            for energy, force, stress in zip(
                energies, np.split(forces, np.cumsum(n_atoms)[:-1]), stresses, strict=True
            )
        ]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute the energy, and forces and stress if requested, without a second forward pass."""
        if system_changes or self._graph_outputs is None:
            Calculator.calculate(self, atoms, properties, system_changes)
            self._graph_outputs, self.results = None, {}
            outputs = self.model._preprocess(self.graph(self.atoms).to(self.device))  # noqa: SLF001
            for name, module in self.model.named_children():
                if name != FORCES:
                    outputs = module(outputs)
            energy = outputs[KEY.PRED_TOTAL_ENERGY].item()
            self._graph_outputs = outputs
            self.results = {"energy": energy, "free_energy": energy}
        if not set(properties) <= set(self.results):
            # Autograd frees the graph after the backward pass.
            outputs, self._graph_outputs = self._graph_outputs, None
            self.results = self.output_to_results(self.model.get_submodule(FORCES)(outputs))
