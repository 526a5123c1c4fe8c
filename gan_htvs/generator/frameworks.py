"""A generator of frameworks, whose cations are put on their sites at random: preset ``tuned``.

Two things that Kim et al., ACS Cent. Sci. 2020, 6, 1412, leave to training are built in here.

* Ions of like charge can take each other's places: exchanging ions of known crystals finds more
  new stable ones than published generative models do (Szymanski & Bartel 2025). So the network
  draws a *framework*: a cell, sites of cations, sites of anions. Which cation takes which site is
  drawn at random. All crystals with the same numbers of sites teach the same framework, whatever
  they are made of.
* The composition is exact: rows without an atom are zero, so no classifier has to read it.

Crystals have one description each instead of a random one: reduced cell, origin on the first
cation, sites in order. A coverage loss then pulls, for every crystal, the nearest of some generated
frameworks towards it, so that none is forgotten (implicit maximum likelihood, Li & Malik 2018;
beside a critic: Yu et al., Inclusive GAN, ECCV 2020).

In the shapes, n is the batch, G the groups of exchangeable elements (2 in a ternary oxide), S the
sites and R the rows (28 each for Mg-Mn-O: 16 for cations and 12 for anions).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor, nn

from gan_htvs.generator.augmentation import checked_weights
from gan_htvs.generator.networks import condition_vector, expected_presence
from gan_htvs.structures.declash import VOLUME_PER_ATOM, is_electronegative
from gan_htvs.structures.point_cloud import ANGLE_SCALE, EDGE, FIRST, LENGTH_SCALE, decode

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem
    from gan_htvs.generator.presets import TrainingParameters

HIDDEN = 2048
"""Units of a hidden layer at ``width`` 1."""

WAVES = 4
"""Sines and cosines of the noise up to this multiple: neighboring noise can be far apart."""

STRETCH, SHEAR = 1.2, math.pi / 6
"""Bounds of the logarithm of an edge over that of a cube, and of an angle's departure from 90.

Longer edges, which 75 of 971 crystals of the shipped set have, are generated as long as this."""

EDGE_WEIGHT, ANGLE_WEIGHT, SITE_WEIGHT = 3.0, 2.0, 0.7
"""Scale the parts of a description: about 1 for 1 A at the edge of a cell of ten atoms."""

_COARSE = 8
"""Sites are sorted by eighths of the edges, so that small displacements keep the order."""

_JUST_BELOW_ONE = 0.97


class Sites:
    """Which sites exchangeable elements share: all cations, and every anion its own.

    Whatever is no anion by its electronegativity counts as a cation, so that the carbon of a
    carbonate would be exchanged with its metal: not a preset for such compounds.

    Attributes
    ----------
    groups
        Positions of the elements of each group in the system.
    caps
        Sites of each group.
    """

    def __init__(self, system: ChemicalSystem) -> None:
        self.system = system
        negative = [is_electronegative(symbol) for symbol in system.elements]
        cations = [e for e, is_one in enumerate(negative) if not is_one]
        anions = [[e] for e, is_one in enumerate(negative) if is_one]
        self.groups = [cations, *anions] if cations else anions
        self.caps = [sum(system.max_counts[e] for e in group) for group in self.groups]
        ends = list(accumulate(self.caps))
        self.blocks = [slice(e - cap, e) for e, cap in zip(ends, self.caps, strict=True)]

    def totals(self, counts: Tensor) -> Tensor:
        """Count the atoms of each group: (n, E) -> (n, G)."""
        return torch.stack([counts[:, group].sum(dim=1) for group in self.groups], dim=1)

    def sources(self, counts: Tensor, keys: Tensor) -> Tensor:
        """Choose the site of every row: the taken sites of a group in the order of their keys.

        ``counts`` (n, E), ``keys`` (n, S), finite -> sites (n, R), arbitrary for empty rows.
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
        """Put atoms on sites: what the critic sees and the decoder reads.

        Parameters
        ----------
        cell
            (n, 6): edges in A, angles in radians.
        sites
            (n, S, 3): fractional coordinates, any real numbers.
        counts
            (n, E).
        keys
            (n, S): the order in which sites are taken.

        Returns
        -------
        Images (n, 2 + R, 3), zero where there is no atom.
        """
        source = self.sources(counts, keys)[..., None].expand(-1, -1, 3)
        frac_coords = torch.remainder(sites.gather(1, source), 1.0)
        rows = FIRST + EDGE * frac_coords
        rows = rows * expected_presence(counts, self.system.max_counts)[..., None]
        edges = cell[:, None, :3] / LENGTH_SCALE
        angles = torch.rad2deg(cell[:, None, 3:]) / ANGLE_SCALE
        return torch.cat([edges, angles, rows], dim=1)

    def describe(self, cell: Tensor, sites: Tensor, totals: Tensor) -> Tensor:
        """Write frameworks as vectors whose distance is about one in A: (n, 6 + 6 S)."""
        edges = EDGE_WEIGHT * (cell[:, :3].log() - cube_edge(totals).log())
        angles = ANGLE_WEIGHT * cell[:, 3:]
        phase = 2 * math.pi * sites
        present = expected_presence(totals, self.caps)[..., None]
        waves = torch.cat([phase.cos(), phase.sin()], dim=2) * present
        return torch.cat([edges, angles, SITE_WEIGHT * waves.flatten(start_dim=1)], dim=1)


def cube_edge(totals: Tensor) -> Tensor:
    """Edge of the cube that holds the atoms at the density of oxides, A: (n, G) -> (n, 1)."""
    return (VOLUME_PER_ATOM * totals.sum(dim=1, keepdim=True)) ** (1 / 3)


class FrameworkGenerator(nn.Module):
    """Noise and composition -> image of a crystal, through a framework.

    The first ``latent_dim`` numbers of the noise, ``noise_dim`` of the parameters, decide the
    framework, the others which cation takes which site.
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
        edges = cube_edge(totals) * h[:, :3].clamp(-STRETCH, STRETCH).exp()
        angles = math.pi / 2 + h[:, 3:6].clamp(-SHEAR, SHEAR)
        return torch.cat([edges, angles], dim=1), h[:, 6:].unflatten(1, (-1, 3))

    def forward(self, noise: Tensor, counts: Tensor) -> Tensor:
        """``noise`` (n, noise_dim), ``counts`` (n, E) -> images (n, 2 + R, 3)."""
        latent, keys = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        cell, sites = self.framework(latent, self.sites.totals(counts))
        return self.sites.decorate(cell, sites, counts, keys)


class TrainingFrameworks:
    """Frameworks of known crystals, drawn with their cations in a new order.

    Conditions (numbers of sites) are drawn in proportion to the root of the number of their
    crystals, and within a condition crystals by weight.

    Parameters
    ----------
    images, counts
        (n, 2 + R, 3) and (n, E): crystals.
    system
        Elements and caps.
    weights
        (n,), positive; equal if not given.
    device
        Where they are kept.

    Attributes
    ----------
    images, counts, probabilities
        What decides a training: as given, and (n,) how often each is drawn.

    Raises
    ------
    ValueError
        If the arrays do not belong to ``system``, hold an impossible cell, or a weight is not
        positive and finite.
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
        weight = checked_weights(images, counts, system, weights)
        self.system = system
        self.layout = Sites(system)
        self.images = torch.as_tensor(images)
        self.counts = torch.as_tensor(counts).long().to(device)
        self.totals = self.layout.totals(self.counts)
        crystals = decode(images, system).to_structures()
        if not all(isinstance(crystal, Structure) for crystal in crystals):
            raise ValueError("images must hold possible cells")
        described = [describe_crystal(cast("Structure", one), self.layout) for one in crystals]
        self.cells, self.sites = (
            torch.tensor(np.array(part), dtype=torch.float32, device=device)
            for part in zip(*described, strict=True)
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
        """Put the ions of crystals on the sites of their frameworks, in the order of keys."""
        return self.layout.decorate(
            self.cells[indices], self.sites[indices], self.counts[indices], keys
        )


def describe_crystal(
    structure: Structure, layout: Sites
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Describe a crystal by its reduced cell and its sites in an order of their own.

    The origin is on the cation that is listed first, so that a crystal of several may be described
    in as many ways; the order of other atoms, the cell and the origin it comes with do not count.

    Returns
    -------
    Cell (6,), A and radians, and sites (S, 3), zero where there is none.
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
    """Mean squared distance of crystals from the nearest of some generated frameworks, A^2/atom.

    Parameters
    ----------
    generator, data
        What learns, and from what.
    indices
        (n,): crystals.
    latents
        (tries, n, latent_dim): the nearest of ``tries`` frameworks is pulled to its crystal.
    """
    tries, n, _ = latents.shape
    totals, wanted = data.totals[indices], data.vectors[indices]
    with torch.no_grad():
        many = totals.repeat(tries, 1)
        made = data.layout.describe(*generator.framework(latents.flatten(end_dim=1), many), many)
        distance = (made.view(tries, n, -1) - wanted).square().sum(dim=2)  # (tries, n)
        nearest = latents[distance.argmin(dim=0), torch.arange(n, device=latents.device)]
    made = data.layout.describe(*generator.framework(nearest, totals), totals)
    return ((made - wanted).square().sum(dim=1) / totals.sum(dim=1)).mean()
