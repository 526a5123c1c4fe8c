"""CHGNet, with energy, forces, stress and magnetic moments from one pass through its network.

Its own ``predict_graph`` runs one backward pass for the forces and another for the stress, and
keeps the graph of both (``create_graph=True``) for training on forces. A relaxation needs one
first-order backward pass. The numbers are the same.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from chgnet.model import CHGNet, CHGNetCalculator
from chgnet.model.model import BatchedGraph
from pymatgen.io.ase import AseAtomsAdaptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from chgnet.graph import CrystalGraph


class OnePassCHGNet(CHGNetCalculator):
    """ASE calculator of CHGNet that computes all it needs at once, of one structure or many.

    Parameters
    ----------
    model
        CHGNet's name of a model; its weights are frozen.
    device
        Of PyTorch.
    """

    def __init__(self, model: str, device: str) -> None:
        network = CHGNet.load(model_name=model, use_device=device, verbose=False)
        super().__init__(network.requires_grad_(False), use_device=device)

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """Make of a structure what the network reads.

        Raises
        ------
        ValueError
            If the network does not know an element.
        """
        known = self.model.atom_embedding.embedding.num_embeddings
        if atoms.numbers.max() > known:
            raise ValueError(
                f"CHGNet knows the elements up to {chemical_symbols[known]}, and not "
                f"{chemical_symbols[atoms.numbers.max()]}"
            )
        return self.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))

    def size(self, graph: CrystalGraph) -> int:
        """Count bonds and angles, which decide how much memory a graph takes."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def predict(self, graphs: Sequence[CrystalGraph]) -> list[dict[str, Any]]:
        """Compute ASE's properties of each graph: eV, eV/A, eV/A^3 and Bohr magnetons."""
        model = self.model
        graphs = [graph.to(self.device) for graph in graphs]
        with warnings.catch_warnings():
            # It makes numbers of the volumes, through which nothing is differentiated.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
            batch = BatchedGraph.from_graphs(
                graphs,
                bond_basis_expansion=model.bond_basis_expansion,
                angle_basis_expansion=model.angle_basis_expansion,
                compute_stress=True,
            )
        # What ``forward`` does, which keeps to itself what is to be differentiated by.
        found = model._compute(batch, compute_magmom=True)  # noqa: SLF001
        sizes = found["atoms_per_graph"]
        energies = found["e"] * sizes
        gradients = torch.autograd.grad(
            energies.sum(), [*batch.atom_positions, *batch.strains], materialize_grads=True
        )
        energies = energies.detach() + model.composition_model(graphs) * sizes
        return [
            {
                "energy": float(energy),
                "forces": -_numbers(by_positions),
                "stress": _numbers(by_strain) / float(volume),
                "magmoms": _numbers(magmoms),
            }
            for energy, by_positions, by_strain, volume, magmoms in zip(
                energies,
                gradients[: len(graphs)],
                gradients[len(graphs) :],
                batch.volumes,
                found["m"],
                strict=True,
            )
        ]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
        task: str = "efsm",  # noqa: ARG002 - always all
    ) -> None:
        """Compute everything, as ASE asks for it."""
        Calculator.calculate(self, atoms, properties, system_changes or all_changes)
        (found,) = self.predict([self.graph(self.atoms)])
        self.results |= found | {"free_energy": found["energy"]}


def _numbers(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()
