"""The three networks of the composition-conditioned crystal GAN.

Kim et al., ACS Cent. Sci. 2020, 6, 1412. All published convolutions have (1, 3) or (1, 1)
kernels. They are implemented as the equivalent linear map of every row of the image.
In the shapes, n is the batch, R the atom rows (28 for Mg-Mn-O), E the elements (3), N_e the cap of
element e (8, 8, 12). Hidden widths are the published ones times ``width``. A map before a batch
normalization has no bias, since subtracting the mean would cancel it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_htvs.structures.point_cloud import CELL_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.core.chemical_system import ChemicalSystem
    from gan_htvs.generator.presets import TrainingParameters

LEAK = 0.2
"""Slope of the leaky rectifiers below zero."""
_ATOM_BRANCH_LAYERS = 4
CRITIC_OUTPUTS = 10
"""Number of outputs that the critic averages to a score."""


def condition_vector(counts: Tensor, caps: Sequence[int]) -> Tensor:
    """Encode compositions for the generator: atoms over R, then one-hot counts.

    ``counts`` (n, E), integers from 1 to the cap -> (n, 1 + R).
    """
    fill = counts.sum(dim=1, keepdim=True) / sum(caps)
    one_hot = [functional.one_hot(counts[:, e] - 1, cap) for e, cap in enumerate(caps)]
    return torch.cat([fill, *one_hot], dim=1).float()


def expected_presence(counts: Tensor, caps: Sequence[int]) -> Tensor:
    """Mark the rows that hold atoms: the first ones of each block. (n, E) -> bool (n, R)."""
    rows = [torch.arange(cap, device=counts.device) for cap in caps]
    return torch.cat([row < counts[:, e, None] for e, row in enumerate(rows)], dim=1)


class Generator(nn.Module):
    """Noise and composition -> image of a crystal."""

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.system = system
        self.noise_dim, eps = parameters.noise_dim, parameters.batch_norm_eps
        rows = system.max_atoms
        stem, narrow, wide = parameters.scaled(128, 256, 512)
        self.stem = nn.Linear(self.noise_dim + 1 + rows, stem * rows)
        self.columns = nn.Linear(stem, 3 * narrow, bias=False)
        self.norm1 = nn.BatchNorm1d(narrow, eps=eps)
        self.map2 = nn.Linear(narrow, wide, bias=False)
        self.norm2 = nn.BatchNorm1d(wide, eps=eps)
        self.map3 = nn.Linear(wide, narrow, bias=False)
        self.norm3 = nn.BatchNorm1d(narrow, eps=eps)
        self.coordinates = nn.Linear(narrow, 1)
        self.cell = nn.Sequential(
            nn.Linear(3 * rows, 30, bias=False),
            nn.BatchNorm1d(30),
            nn.ReLU(),
            nn.Linear(30, 3 * CELL_ROWS),
        )
        self.apply(_initialize)

    def forward(self, noise: Tensor, counts: Tensor) -> Tensor:
        """``noise`` (n, noise_dim), ``counts`` (n, E) -> images (n, 2 + R, 3) in (0, 1)."""
        n, rows = len(noise), self.system.max_atoms
        h = torch.cat([noise, condition_vector(counts, self.system.max_counts)], dim=1)
        h = functional.relu(self.stem(h)).view(n * rows, -1)  # (n R, 128)
        h = self.columns(h).view(n * rows * 3, -1)  # one pixel per row and column: (3 n R, 256)
        h = functional.relu(self.norm1(h), inplace=True)
        h = functional.relu(self.norm2(self.map2(h)), inplace=True)  # (3 n R, 512)
        h = functional.relu(self.norm3(self.map3(h)), inplace=True)  # (3 n R, 256)
        h = _in_float32(self.coordinates, h).view(n, 3 * rows)  # (n, 3 R)
        cell = _in_float32(self.cell, h)  # (n, 6)
        return torch.sigmoid(torch.cat([cell, h], dim=1)).view(n, CELL_ROWS + rows, 3)


class Critic(nn.Module):
    """Image -> unbounded score; no batch normalization because of the gradient penalty."""

    pooling: Tensor

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        wide, narrow, first, second = parameters.scaled(512, 256, 1000, 200)
        self.rows = nn.Sequential(
            *(nn.Linear(3, wide), nn.LeakyReLU(LEAK, inplace=True)),
            *(nn.Linear(wide, wide), nn.LeakyReLU(LEAK, inplace=True)),
            *(nn.Linear(wide, narrow), nn.LeakyReLU(LEAK, inplace=True)),
        )
        pools = CELL_ROWS + len(system.elements)
        pooling = torch.zeros(pools, CELL_ROWS + system.max_atoms)
        pooling[:CELL_ROWS, :CELL_ROWS] = torch.eye(CELL_ROWS)
        for e, block in enumerate(system.blocks):
            rows = slice(CELL_ROWS + block.start, CELL_ROWS + block.stop)
            pooling[CELL_ROWS + e, rows] = 1 / system.max_counts[e]
        self.register_buffer("pooling", pooling, persistent=False)
        self.head = nn.Sequential(
            *(nn.Linear(pools * narrow, first), nn.LeakyReLU(LEAK, inplace=True)),
            *(nn.Linear(first, second), nn.LeakyReLU(LEAK, inplace=True)),
        )
        self.outputs = nn.Linear(second, CRITIC_OUTPUTS)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """``images`` (n, 2 + R, 3) -> scores (n,)."""
        h = self.rows(images.flatten(end_dim=1))  # (n (2 + R), 256), through 512 and 512
        h = h.unflatten(0, images.shape[:2])  # (n, 2 + R, 256)
        h = self.pooling @ h  # cell rows kept, one mean per element: (n, 2 + E, 256)
        h = self.head(h.flatten(start_dim=1))  # (n, 200), through 1000
        return _in_float32(self.outputs, h).mean(dim=1)


class ElementReading(NamedTuple):
    """Predictions of the classifier for one element, as logits."""

    atoms: Tensor
    """(n, N_e, 2): the row is padding, the row is an atom."""
    counts: Tensor
    """(n, N_e): one atom, two atoms, ..."""


class Classifier(nn.Module):
    """Image -> atom rows and number of atoms, one network per element.

    With ``atom_branch_norms`` 4 instead of 3, a normalization also follows the last layer of the
    atom branch. A positive ``lambda_cell`` adds a network that predicts the fraction of filled atom
    rows from the cell rows.
    """

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.system = system
        self.elements = nn.ModuleList(
            _ElementClassifier(cap, parameters) for cap in system.max_counts
        )
        self.cell = _CellClassifier(parameters) if parameters.lambda_cell else None
        self.apply(_initialize)

    def forward(self, images: Tensor) -> list[ElementReading]:
        """``images`` (n, 2 + R, 3) -> one reading per element."""
        rows = images[:, CELL_ROWS:]
        return [
            network(rows[:, block])
            for network, block in zip(self.elements, self.system.blocks, strict=True)
        ]

    def fill(self, images: Tensor) -> Tensor:
        """``images`` (n, 2 + R, 3) -> predicted fraction of filled atom rows (n,)."""
        if self.cell is None:
            raise ValueError("this classifier has no cell branch; set lambda_cell")
        return self.cell(images[:, :CELL_ROWS])


class _ElementClassifier(nn.Module):
    def __init__(self, cap: int, parameters: TrainingParameters) -> None:
        super().__init__()
        eps = parameters.batch_norm_eps
        wide, narrow, first, second = parameters.scaled(512, 256, 300, 100)
        self.row = nn.Sequential(
            *_normalized(3, wide, eps),
            *_normalized(wide, narrow, eps),
            *_normalized(narrow, narrow, eps),
            *(
                (nn.Linear(narrow, 2, bias=False), nn.BatchNorm1d(2, eps=eps))
                if parameters.atom_branch_norms == _ATOM_BRANCH_LAYERS
                else (nn.Linear(narrow, 2),)
            ),
        )
        self.composition = nn.Sequential(
            *_normalized(2 * cap, first, eps),
            *_normalized(first, second, eps),
            nn.Linear(second, cap),
        )

    def forward(self, rows: Tensor) -> ElementReading:
        """``rows`` (n, N_e, 3)."""
        n, cap, _ = rows.shape
        atoms = self.row(rows.flatten(end_dim=1)).view(n, cap, 2)  # through (n N_e, 512), 256, 256
        return ElementReading(atoms, _in_float32(self.composition, atoms.flatten(start_dim=1)))


class _CellClassifier(nn.Module):
    def __init__(self, parameters: TrainingParameters) -> None:
        super().__init__()
        eps = parameters.batch_norm_eps
        row, first, second = parameters.scaled(64, 100, 50)
        self.row = nn.Sequential(*_normalized(3, row, eps), *_normalized(row, row, eps))
        self.head = nn.Sequential(
            *_normalized(CELL_ROWS * row, first, eps),
            *_normalized(first, second, eps, leak=0.01),  # PyTorch's leak, in the published code
            nn.Linear(second, 1),
            nn.Sigmoid(),
        )

    def forward(self, cell: Tensor) -> Tensor:
        """``cell`` (n, 2, 3) -> (n,)."""
        h = self.row(cell.flatten(end_dim=1))  # (2 n, 64)
        return self.head(h.view(len(cell), -1)).squeeze(1)


def _normalized(inputs: int, outputs: int, eps: float, leak: float = LEAK) -> list[nn.Module]:
    return [
        nn.Linear(inputs, outputs, bias=False),
        nn.BatchNorm1d(outputs, eps=eps),
        nn.LeakyReLU(leak, inplace=True),
    ]


def _in_float32(layer: nn.Module, h: Tensor) -> Tensor:
    """Apply a layer next to the image or the scores in float32, also under bfloat16 autocast."""
    with torch.autocast(h.device.type, enabled=False):
        return layer(h.float())


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
