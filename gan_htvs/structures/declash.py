"""Overlap removal (declash): separates overlapping atoms before relaxation with a potential.

Interatomic potentials have holes at short distances, where half of all relaxations of raw samples
end. Overlap removal minimizes the squared overlap of soft spheres over positions and strain, which
takes milliseconds per structure. A batch is one graph: the atoms of all structures are
concatenated, and pairs are an edge list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from pymatgen.optimization.neighbors import find_points_in_spheres
from torch import Tensor

from gan_htvs.structures.fingerprint import SITE_TOLERANCE
from gan_htvs.structures.geometry_limits import CHEMISTRY, LOOSE, GeometryLimits
from gan_htvs.structures.validity import check_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOLERANCE = 0.05
"""Largest overlap that is accepted, A."""

MAX_STEPS = 400
"""Largest number of FIRE steps."""

MAX_DISPLACEMENT = 4.0
"""Displacement of an atom at which the overlap removal of its structure stops, A; the geometry
check will reject the structure."""

_STIFFNESS = 1.0
"""Weight of the volume term, A^2 per atom and relative volume change squared."""
_SKIN = 1.0
_MAX_MOVE = 0.15
_TIME_STEP = 0.15
_MAX_TIME_STEP = 0.4
_FRICTION = 0.1
_PATIENCE = 5
_COINCIDENT = 0.05


@dataclass(frozen=True)
class DeclashResult:
    """Structures after overlap removal.

    Attributes
    ----------
    structures
        Structures in the order of the input; inputs that are not finite or have an impossible cell
        are unchanged.
    max_displacement
        (n,): largest displacement of an atom relative to the cell, A; zero without overlaps.
    overlap
        (n,): largest remaining overlap of a pair, A; NaN for unusable inputs.
    is_remade
        (n,): whether the root mean square displacement exceeds the site tolerance of the structure
        matcher, so that the result is unrelated to the input.
    """

    structures: list[Structure]
    max_displacement: NDArray[np.float64]
    overlap: NDArray[np.float64]
    is_remade: NDArray[np.bool_]


def declash(
    structures: Sequence[Structure],
    limits: GeometryLimits = CHEMISTRY,
    *,
    scales: bool = True,
    shrinks_loose: bool = False,
) -> DeclashResult:
    """Separate overlapping atoms by optimizing positions and strain.

    The objective is the sum over pairs of max(0, d0 - d)^2, with the overlap distances d0 of the
    chemical system, plus a term that keeps the volume. It is minimized by FIRE (Bitzek et al.,
    Phys. Rev. Lett. 2006, 97, 170201) with a separate time step for each structure. Structures
    without overlaps are returned unchanged, unless they are loose and ``shrinks_loose``.

    Parameters
    ----------
    structures
        Raw structures of any sizes; together, their elements are the chemical system.
    limits
        Overlap distances and target volume; by default those of the elements.
    scales
        Whether cells with overlaps are first scaled to the target volume.
    shrinks_loose
        Whether cells of more than ``LOOSE`` times the target volume are scaled to it, even without
        overlaps. This is for structures whose volume is arbitrary.
    """
    result = DeclashResult(
        list(structures),
        max_displacement=np.zeros(len(structures)),
        overlap=np.full(len(structures), np.nan),
        is_remade=np.zeros(len(structures), dtype=bool),
    )
    usable = [i for i, s in enumerate(structures) if len(s) and check_cell(s) is None]
    if usable:
        batch = _Batch(
            [structures[i] for i in usable], limits, scales=scales, shrinks_loose=shrinks_loose
        )
        batch.minimize()
        batch.write(result, usable)
    return result


class _Batch:
    """Concatenated structures: reference positions, strains, edges."""

    def __init__(
        self,
        structures: list[Structure],
        limits: GeometryLimits,
        *,
        scales: bool,
        shrinks_loose: bool,
    ) -> None:
        sizes = np.array([len(s) for s in structures])
        self.owner = torch.as_tensor(np.repeat(np.arange(len(structures)), sizes))
        self.splits = np.cumsum(sizes)[:-1]
        self.sizes = torch.as_tensor(sizes).double()
        symbols = [site.specie.symbol for s in structures for site in s]
        elements = tuple(sorted(set(symbols)))
        table = limits.overlaps_below(elements)
        self.table = torch.tensor(
            [[table[a, b] for b in elements] for a in elements], dtype=torch.float64
        )
        self.kind = torch.tensor([elements.index(s) for s in symbols])
        self.cutoff = float(self.table.max())

        self.cells = torch.as_tensor(np.array([s.lattice.matrix for s in structures]))
        frac_coords = np.concatenate([s.frac_coords for s in structures])
        self.start = torch.as_tensor(frac_coords)
        volume = torch.linalg.det(self.cells).abs()
        target = self.sizes * limits.target_volume(elements)
        self.positions = torch.einsum("ai,aij->aj", self.start, self.cells[self.owner])
        self.strain = torch.zeros_like(self.cells)
        self.rebuild()
        rescaled = (self.worst(self.edges()[2]) > TOLERANCE) & scales
        if shrinks_loose:
            rescaled |= volume > LOOSE * target
        factor = torch.where(rescaled, (target / volume) ** (1 / 3), torch.ones(()).double())
        self.target = torch.where(rescaled, target, volume)
        self.cells = self.cells * factor[:, None, None]
        self.positions = self.positions * factor[self.owner, None]
        self.rebuild()
        self.separate_coincident()

    def deformation(self) -> Tensor:
        return torch.eye(3, dtype=torch.float64) + self.strain

    def rebuild(self) -> None:
        """List all pairs that can come within the cutoff before the skin is exhausted."""
        deformation = self.deformation()
        cells = (self.cells @ deformation).numpy()
        positions = torch.einsum("ai,aij->aj", self.positions, deformation[self.owner]).numpy()
        first, second, images, offset = [], [], [], 0
        for cell, coords in zip(cells, np.split(positions, self.splits), strict=True):
            i, j, image, _ = find_points_in_spheres(
                np.ascontiguousarray(coords),
                np.ascontiguousarray(coords),
                r=self.cutoff + _SKIN,
                pbc=np.array([1, 1, 1], dtype=np.int64),
                lattice=np.ascontiguousarray(cell),
                tol=1e-8,
            )
            # Each pair once, including pairs of an atom and its own image.
            half = (i < j) | ((i == j) & _is_positive(image))
            first.append(i[half] + offset)
            second.append(j[half] + offset)
            images.append(image[half])
            offset += len(coords)
        self.first = torch.as_tensor(np.concatenate(first))
        self.second = torch.as_tensor(np.concatenate(second))
        self.edge_owner = self.owner[self.first]
        self.images = torch.as_tensor(np.concatenate(images)).double()
        self.distances = self.table[self.kind[self.first], self.kind[self.second]]
        self.listed_positions = torch.as_tensor(positions)
        self.listed_strain = self.strain.clone()

    def list_is_stale(self) -> bool:
        positions = torch.einsum("ai,aij->aj", self.positions, self.deformation()[self.owner])
        moved = (positions - self.listed_positions).norm(dim=1).max()
        # Periodic images move with the cell, by the strain times the length of the pair.
        sheared = (self.strain - self.listed_strain).flatten(1).norm(dim=1).max()
        reach = self.cells.norm(dim=2).max()
        return bool(2 * moved + sheared * reach > _SKIN)

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compute undeformed pair vectors (m, 3), deformed ones (m, 3), and their lengths (m,)."""
        shift = torch.einsum("mi,mij->mj", self.images, self.cells[self.edge_owner])
        undeformed = self.positions[self.second] + shift - self.positions[self.first]
        deformed = torch.einsum("mi,mij->mj", undeformed, self.deformation()[self.edge_owner])
        return undeformed, deformed, deformed.norm(dim=1)

    def overlaps(self, length: Tensor) -> Tensor:
        """Return the overlap of each pair (m,), A."""
        return (self.distances - length).clamp(min=0)

    def worst(self, length: Tensor) -> Tensor:
        """Return the largest overlap of each structure, A."""
        return self.largest(self.overlaps(length), self.edge_owner)

    def separate_coincident(self) -> None:
        """Displace coincident atoms randomly, since their pair vectors have no direction."""
        _, _, length = self.edges()
        atoms = torch.unique(self.second[length < _COINCIDENT])
        if len(atoms):
            rng = torch.Generator().manual_seed(0)
            nudge = torch.randn(len(atoms), 3, generator=rng, dtype=torch.float64)
            self.positions[atoms] += 2 * _COINCIDENT * nudge / nudge.norm(dim=1, keepdim=True)
            self.rebuild()

    def forces(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compute negative gradients of positions and strain, and the largest overlaps."""
        undeformed, deformed, length = self.edges()
        pull = 2 * self.overlaps(length)[:, None] * deformed / length.clamp(min=1e-9)[:, None]
        deformation = self.deformation()
        back = torch.einsum("mi,mji->mj", pull, deformation[self.edge_owner])
        on_atoms = torch.zeros_like(self.positions)
        on_atoms.index_add_(0, self.second, back)
        on_atoms.index_add_(0, self.first, -back)
        on_strain = torch.zeros_like(self.strain)
        on_strain.index_add_(0, self.edge_owner, undeformed[:, :, None] * pull[:, None, :])

        volume = torch.linalg.det(self.cells @ deformation).abs()
        excess = volume / self.target - 1
        slope = 2 * _STIFFNESS * self.sizes * excess * volume / self.target
        inverse = torch.linalg.inv(deformation).transpose(1, 2)
        on_strain -= slope[:, None, None] * inverse
        return on_atoms, (on_strain + on_strain.transpose(1, 2)) / 2, self.worst(length)

    def per_structure(self, atoms: Tensor, strain: Tensor) -> Tensor:
        """Sum over the atoms and the strain of each structure."""
        total = strain.sum(dim=(1, 2))
        return total.index_add(0, self.owner, atoms.sum(dim=1))

    def minimize(self) -> None:
        """Run FIRE until each structure is within tolerance or has reached a limit."""
        count = len(self.cells)
        # Strain in units of length, so that positions and strain share a step size.
        scale = (self.sizes ** (1 / 2) * self.target ** (1 / 3)).view(-1, 1, 1)
        speed, speed_strain = torch.zeros_like(self.positions), torch.zeros_like(self.strain)
        step = torch.full((count,), _TIME_STEP, dtype=torch.float64)
        friction = torch.full((count,), _FRICTION, dtype=torch.float64)
        downhill = torch.zeros(count, dtype=torch.float64)
        for _ in range(MAX_STEPS):
            force, force_strain, worst = self.forces()
            farthest = self.largest(self.displacements(), self.owner)
            moving = (worst > TOLERANCE) & (farthest < MAX_DISPLACEMENT)
            if not moving.any():
                break
            force_strain = force_strain / scale
            force = force * moving[self.owner, None]
            force_strain = force_strain * moving[:, None, None]
            power = self.per_structure(force * speed, force_strain * speed_strain)
            good = power > 0
            norm = self.per_structure(force**2, force_strain**2).sqrt().clamp(min=1e-12)
            rate = self.per_structure(speed**2, speed_strain**2).sqrt()
            keep = torch.where(good, 1 - friction, 0.0)
            steer = torch.where(good, friction * rate / norm, 0.0)
            speed = keep[self.owner, None] * speed + steer[self.owner, None] * force
            speed_strain = keep[:, None, None] * speed_strain + steer[:, None, None] * force_strain
            downhill = torch.where(good, downhill + 1, 0.0)
            faster = good & (downhill > _PATIENCE)
            step = torch.where(faster, (step * 1.1).clamp(max=_MAX_TIME_STEP), step)
            step = torch.where(good, step, step * 0.5).clamp(min=1e-3)
            friction = torch.where(faster, friction * 0.99, friction)
            friction = torch.where(good, friction, _FRICTION)
            speed = speed + step[self.owner, None] * force
            speed_strain = speed_strain + step[:, None, None] * force_strain

            move, move_strain = step[self.owner, None] * speed, step[:, None, None] * speed_strain
            largest = move_strain.flatten(1).norm(dim=1)
            largest = torch.maximum(largest, self.largest(move.norm(dim=1), self.owner))
            limit = (_MAX_MOVE / largest.clamp(min=_MAX_MOVE)) * moving
            self.positions = self.positions + limit[self.owner, None] * move
            self.strain = self.strain + limit[:, None, None] * move_strain / scale
            if self.list_is_stale():
                self.rebuild()

    def frac_coords(self) -> Tensor:
        """Compute the current fractional coordinates (a, 3), not wrapped."""
        inverse = torch.linalg.inv(self.cells)
        return torch.einsum("ai,aij->aj", self.positions, inverse[self.owner])

    def displacements(self) -> Tensor:
        """Compute the displacement (a,) of each atom in the current cell, A."""
        cells = self.cells @ self.deformation()
        moved = self.frac_coords() - self.start
        return torch.einsum("ai,aij->aj", moved, cells[self.owner]).norm(dim=1)

    def largest(self, values: Tensor, owner: Tensor) -> Tensor:
        """Return the largest value of each structure, for values of atoms or pairs."""
        largest = torch.zeros(len(self.cells), dtype=torch.float64)
        return largest.scatter_reduce(0, owner, values, "amax")

    def write(self, result: DeclashResult, positions: list[int]) -> None:
        """Write the declashed structures to their positions in a result."""
        self.rebuild()
        cells = self.cells @ self.deformation()
        frac_coords = np.split(self.frac_coords().numpy(), self.splits)
        for i, cell, coords in zip(positions, cells.numpy(), frac_coords, strict=True):
            species = result.structures[i].species
            result.structures[i] = Structure(Lattice(cell), species, coords, to_unit_cell=True)
        moves = self.displacements()
        mean_square = torch.zeros(len(cells), dtype=torch.float64)
        mean_square = mean_square.index_add(0, self.owner, moves**2) / self.sizes
        spacing = (torch.linalg.det(cells).abs() / self.sizes) ** (1 / 3)
        result.max_displacement[positions] = self.largest(moves, self.owner).numpy()
        result.overlap[positions] = self.worst(self.edges()[2]).numpy()
        result.is_remade[positions] = (mean_square.sqrt() > SITE_TOLERANCE * spacing).numpy()


def _is_positive(images: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Select one of each pair of opposite images, with a positive first non-zero component."""
    x, y, z = images.T
    return (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
