"""Generator of frameworks with random cation ordering: preset ``tuned``.

Two properties that the networks of Kim et al., ACS Cent. Sci. 2020, 6, 1412, have to learn are
built in here.

* Metals are exchangeable: ion exchange in known crystals finds more new stable crystals than
  published generative models (Szymanski & Bartel 2025). The network generates a *framework*: a
  cell, sites of metals, sites of every other element. The ordering of the metals is drawn at
  random. All crystals with the same numbers of sites contribute to the same frameworks, whatever
  their metals.
* The composition is exact: rows without an atom are zero, and no classifier is needed.

Every crystal has one description instead of random ones: reduced cell, origin on the first metal,
sites in order. For every crystal, a coverage loss moves the nearest of some generated frameworks
toward it, which prevents mode dropping (implicit maximum likelihood, Li & Malik 2018; with a
critic: Yu et al., Inclusive GAN, ECCV 2020).

In the shapes, n is the batch, G the groups of exchangeable elements (2 in a ternary oxide), S the
sites and R the rows (28 each for Mg-Mn-O: 16 for metals and 12 for oxygen).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pymatgen.core import Element, Structure
from torch import Tensor, nn

from gan_htvs.generator.augmentation import check_weights
from gan_htvs.generator.networks import condition_vector, expected_presence
from gan_htvs.structures.geometry_limits import typical_volume
from gan_htvs.structures.point_cloud import ANGLE_SCALE, EDGE, FIRST, LENGTH_SCALE, decode

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem
    from gan_htvs.generator.presets import TrainingParameters

HIDDEN = 2048
"""Units of a hidden layer at ``width`` 1."""

WAVES = 4
"""Number of harmonics (sine and cosine) of the noise in the input of the network, with which
frameworks of similar noise can differ strongly."""

STRETCH, SHEAR = 1.2, math.pi / 6
"""Bounds of log(edge / :meth:`Sites.cube_edge`) and of the deviation of an angle from 90 degrees.

75 of 971 crystals of the shipped set have longer edges, which cannot be generated."""

EDGE_WEIGHT, ANGLE_WEIGHT, SITE_WEIGHT = 3.0, 2.0, 0.7
"""Weights of the parts of a description; about 1 per A at the edge of a cell of ten atoms."""

_COARSE = 8
"""Sites are sorted by eighths of the edges, so that small displacements keep the order."""

_JUST_BELOW_ONE = 0.97
"""Larger fractional coordinates are shifted to just below 0 before sorting."""


class Sites:
    """Groups of elements that share sites: all metals, and every other element separately.

    The centers of polyanions, such as C in carbonates, are therefore not exchanged with metals.

    Attributes
    ----------
    groups
        Indices of the elements of each group in the system.
    caps
        Number of sites of each group.
    volume_per_atom
        Typical volume of the chemical system, A^3/atom.
    """

    def __init__(self, system: ChemicalSystem) -> None:
        self.system = system
        self.volume_per_atom = typical_volume(tuple(sorted(system.elements)))
        is_metal = [Element(symbol).is_metal for symbol in system.elements]
        metals = [e for e, metallic in enumerate(is_metal) if metallic]
        others = [[e] for e, metallic in enumerate(is_metal) if not metallic]
        self.groups = [metals, *others] if metals else others
        self.caps = [sum(system.max_counts[e] for e in group) for group in self.groups]
        ends = list(accumulate(self.caps))
        self.blocks = [slice(e - cap, e) for e, cap in zip(ends, self.caps, strict=True)]

    def totals(self, counts: Tensor) -> Tensor:
        """Count the atoms of each group: (n, E) -> (n, G)."""
        return torch.stack([counts[:, group].sum(dim=1) for group in self.groups], dim=1)

    def sources(self, counts: Tensor, keys: Tensor) -> Tensor:
        """Return the site of every row: the occupied sites of a group in the order of their keys.

        ``counts`` (n, E), ``keys`` (n, S), finite -> sites (n, R), undefined for empty rows.
        """
        keys = keys.masked_fill(~expected_presence(self.totals(counts), self.caps), math.inf)
        rows: list[Tensor] = [torch.empty(0)] * len(self.system.elements)
        for group, block in zip(self.groups, self.blocks, strict=True):
            order = keys[:, block].argsort(dim=1, stable=True) + block.start
            first = torch.zeros_like(counts[:, 0])
            for e in group:
                cap = self.system.max_counts[e]
                place = first[:, None] + torch.arange(cap, device=counts.device)
                rows[e] = order.gather(1, place.clamp(max=order.shape[1] - 1))
                first = first + counts[:, e]
        return torch.cat(rows, dim=1)

    def decorate(self, cell: Tensor, sites: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
        """Place atoms on sites and encode the crystals as images.

        Parameters
        ----------
        cell
            (n, 6): edges in A, angles in radians.
        sites
            (n, S, 3): fractional coordinates, any real numbers.
        counts
            (n, E).
        keys
            (n, S): sort keys that define the order in which sites are occupied.

        Returns
        -------
        Images (n, 2 + R, 3); empty rows are zero.
        """
        source = self.sources(counts, keys)[..., None].expand(-1, -1, 3)
        frac_coords = torch.remainder(sites.gather(1, source), 1.0)
        rows = FIRST + EDGE * frac_coords
        rows = rows * expected_presence(counts, self.system.max_counts)[..., None]
        edges = cell[:, None, :3] / LENGTH_SCALE
        angles = torch.rad2deg(cell[:, None, 3:]) / ANGLE_SCALE
        return torch.cat([edges, angles, rows], dim=1)

    def cube_edge(self, totals: Tensor) -> Tensor:
        """Return the edge of a cube with the atoms at a typical volume, A: (n, G) -> (n, 1)."""
        return (self.volume_per_atom * totals.sum(dim=1, keepdim=True)) ** (1 / 3)

    def describe(self, cell: Tensor, sites: Tensor, totals: Tensor) -> Tensor:
        """Encode frameworks as vectors whose distances are roughly in A: (n, 6 + 6 S)."""
        edges = EDGE_WEIGHT * (cell[:, :3].log() - self.cube_edge(totals).log())
        angles = ANGLE_WEIGHT * cell[:, 3:]
        phase = 2 * math.pi * sites
        present = expected_presence(totals, self.caps)[..., None]
        waves = torch.cat([phase.cos(), phase.sin()], dim=2) * present
        return torch.cat([edges, angles, SITE_WEIGHT * waves.flatten(start_dim=1)], dim=1)


class FrameworkGenerator(nn.Module):
    """Noise and composition -> image of a crystal, through a framework.

    The first ``latent_dim`` numbers of the noise (``noise_dim`` of the parameters) determine the
    framework, the others the cation ordering.
    """

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.sites = Sites(system)
        self.latent_dim = parameters.noise_dim
        self.noise_dim = self.latent_dim + system.max_atoms
        (hidden,) = parameters.scaled(HIDDEN)
        inputs = self.latent_dim * (1 + 2 * WAVES) + 1 + system.max_atoms
        layers: list[nn.Module] = []
        for i in (inputs, hidden, hidden):
            layers += [nn.Linear(i, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden, 6 + 3 * system.max_atoms)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def framework(self, latent: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """``latent`` (n, latent_dim), ``totals`` (n, G) -> cell (n, 6), sites (n, S, 3)."""
        waves = [f(k * latent) for k in range(1, WAVES + 1) for f in (torch.sin, torch.cos)]
        condition = condition_vector(totals, self.sites.caps)
        h = self.body(torch.cat([latent, *waves, condition], dim=1))
        h = self.head(h)  # (n, 6 + 3 S)
        edges = self.sites.cube_edge(totals) * h[:, :3].clamp(-STRETCH, STRETCH).exp()
        angles = math.pi / 2 + h[:, 3:6].clamp(-SHEAR, SHEAR)
        return torch.cat([edges, angles], dim=1), h[:, 6:].unflatten(1, (-1, 3))

    def forward(self, noise: Tensor, counts: Tensor) -> Tensor:
        """``noise`` (n, noise_dim), ``counts`` (n, E) -> images (n, 2 + R, 3)."""
        latent, keys = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        cell, sites = self.framework(latent, self.sites.totals(counts))
        return self.sites.decorate(cell, sites, counts, keys)


class TrainingFrameworks:
    """Frameworks of known crystals, drawn with random cation ordering.

    Conditions (numbers of sites) are drawn in proportion to the square root of the number of their
    crystals, and crystals within a condition by weight.

    Parameters
    ----------
    images, counts
        (n, 2 + R, 3) and (n, E): crystals.
    system
        Elements and caps.
    weights
        (n,), positive; equal by default.
    device
        Device of the frameworks.

    Attributes
    ----------
    images, counts, probabilities
        The crystals, and the probability of each, (n,).

    Raises
    ------
    ValueError
        If the arrays do not fit ``system``, contain an impossible cell, or a weight is not positive
        and finite.
    """

    def __init__(
        self,
        images: NDArray[np.float32],
        counts: NDArray[np.integer],
        system: ChemicalSystem,
        *,
        weights: ArrayLike | None = None,
        device: torch.device | None = None,
    ) -> None:
        weight = check_weights(images, counts, system, weights)
        self.system = system
        self.layout = Sites(system)
        self.images = torch.as_tensor(images)
        self.counts = torch.as_tensor(counts).long().to(device)
        self.totals = self.layout.totals(self.counts)
        crystals = decode(images, system).to_structures()
        if not all(isinstance(crystal, Structure) for crystal in crystals):
            raise ValueError("images must contain possible cells")
        descriptions = [describe_crystal(cast("Structure", s), self.layout) for s in crystals]
        self.cells, self.sites = (
            torch.tensor(np.array(part), dtype=torch.float32, device=device)
            for part in zip(*descriptions, strict=True)
        )
        self.vectors = self.layout.describe(self.cells, self.sites, self.totals)
        _, condition, sizes = np.unique(
            self.totals.cpu().numpy(), axis=0, return_inverse=True, return_counts=True
        )
        condition = condition.reshape(-1)
        share = weight / np.bincount(condition, weight)[condition] * np.sqrt(sizes[condition])
        self.probabilities = torch.as_tensor(share / share.sum())

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw indices of crystals (n,), on the CPU, where ``rng`` is."""
        return torch.multinomial(self.probabilities, n, replacement=True, generator=rng)

    def decorated(self, indices: Tensor, keys: Tensor) -> Tensor:
        """Place the ions of crystals on the sites of their frameworks, in the order of the keys."""
        return self.layout.decorate(
            self.cells[indices], self.sites[indices], self.counts[indices], keys
        )


def describe_crystal(
    structure: Structure, layout: Sites
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Describe a crystal by its reduced cell and its sites in a canonical order.

    The origin is on the first metal of the structure; a crystal with several metals therefore has
    several descriptions. Otherwise, order of atoms, cell and origin of the structure do not matter.

    Returns
    -------
    cell
        (6,), A and radians.
    sites
        (S, 3); empty sites are zero.
    """
    reduced = structure.get_reduced_structure()
    sites = np.zeros((sum(layout.caps), 3))
    origin: NDArray[np.float64] | None = None
    for group, block in zip(layout.groups, layout.blocks, strict=True):
        symbols = {layout.system.elements[e] for e in group}
        coords = np.array([s.frac_coords for s in reduced if s.specie.symbol in symbols])
        origin = coords[0] if origin is None else origin
        coords = np.mod(coords - origin, 1.0)
        coords = np.where(coords > _JUST_BELOW_ONE, coords - 1, coords)
        order = np.lexsort(np.round(coords * _COARSE).T[::-1])
        sites[block.start : block.start + len(coords)] = coords[order]
    lattice = reduced.lattice
    return np.concatenate([lattice.abc, np.radians(lattice.angles)]), sites


def coverage_loss(
    generator: FrameworkGenerator,
    data: TrainingFrameworks,
    indices: Tensor,
    latents: Tensor,
) -> Tensor:
    """Compute the mean squared distance of crystals from the nearest generated framework, A^2/atom.

    Parameters
    ----------
    generator, data
        Generator and training set.
    indices
        (n,): crystals of the training set.
    latents
        (tries, n, latent_dim): noise of ``tries`` frameworks per crystal.
    """
    tries, n, _ = latents.shape
    totals, targets = data.totals[indices], data.vectors[indices]
    with torch.no_grad():
        repeated = totals.repeat(tries, 1)
        generated = generator.framework(latents.flatten(end_dim=1), repeated)
        vectors = data.layout.describe(*generated, repeated)
        distance = (vectors.view(tries, n, -1) - targets).square().sum(dim=2)  # (tries, n)
        nearest = latents[distance.argmin(dim=0), torch.arange(n, device=latents.device)]
    vectors = data.layout.describe(*generator.framework(nearest, totals), totals)
    return ((vectors - targets).square().sum(dim=1) / totals.sum(dim=1)).mean()
