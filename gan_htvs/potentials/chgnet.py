"""CHGNet with energy, forces, stress and magnetic moments from one backward pass.

``CHGNet.predict_graph`` runs one backward pass for the forces and another one for the stress, and
keeps the graph of both (``create_graph=True``) for training on forces. A relaxation needs one
first-order backward pass. The results are the same.
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
    """ASE calculator of CHGNet that computes all properties at once, for one or many structures.

    Parameters
    ----------
    model
        Name of the model in CHGNet; its weights are frozen.
    device
        Device of PyTorch.
    """

    def __init__(self, model: str, device: str) -> None:
        network = CHGNet.load(model_name=model, use_device=device, verbose=False)
        super().__init__(network.requires_grad_(False), use_device=device)

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """Build the input of the network from a structure.

        Raises
        ------
        ValueError
            If the network does not support an element.
        """
        n_elements = self.model.atom_embedding.embedding.num_embeddings
        if atoms.numbers.max() > n_elements:
            raise ValueError(
                f"CHGNet supports elements up to {chemical_symbols[n_elements]}, not "
                f"{chemical_symbols[atoms.numbers.max()]}"
            )
        return self.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))

    def size(self, graph: CrystalGraph) -> int:
        """Count bonds and angles, which determine the memory of a graph."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def predict(self, graphs: Sequence[CrystalGraph]) -> list[dict[str, Any]]:
        """Compute the properties of each graph: eV, eV/A, eV/A^3 and Bohr magnetons."""
        model = self.model
        graphs = [graph.to(self.device) for graph in graphs]
        with warnings.catch_warnings():
            # Volumes are converted to numbers, but not differentiated.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
            batch = BatchedGraph.from_graphs(
                graphs,
                bond_basis_expansion=model.bond_basis_expansion,
                angle_basis_expansion=model.angle_basis_expansion,
                compute_stress=True,
            )
        # ``forward`` does the same, but does not return the variables of differentiation.
        output = model._compute(batch, compute_magmom=True)  # noqa: SLF001
        sizes = output["atoms_per_graph"]
        energies = output["e"] * sizes
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
                output["m"],
                strict=True,
            )
        ]

    @torch.no_grad()
    def energy_without_forces(self, atoms: Atoms) -> float:
        """Compute the energy of a structure, eV, in a third of the time of :meth:`calculate`."""
        output = self.model.predict_graph(self.graph(atoms), task="e")
        return float(output["e"]) * len(atoms)  # eV/atom

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
        task: str = "efsm",  # noqa: ARG002 - always all
    ) -> None:
        """Compute all properties, with the signature of ASE."""
        Calculator.calculate(self, atoms, properties, system_changes or all_changes)
        (output,) = self.predict([self.graph(self.atoms)])
        self.results |= output | {"free_energy": output["energy"]}


def _numbers(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()
