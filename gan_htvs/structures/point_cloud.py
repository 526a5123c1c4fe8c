"""Point-cloud representation: structures as images (rows, 3) of fixed size.

Row 0 has a, b, c over 30 A, row 1 alpha, beta, gamma over 180 degrees. One row per atom follows, in
blocks by element whose sizes are the caps of the chemical system; unused rows are zero. To
distinguish an atom at the origin from padding, coordinates are mapped to [1/6, 5/6] (Kim et al.,
ACS Cent. Sci. 2020, 6, 1412, and the code published with it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.validity import RejectionReason, possible_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem

CELL_ROWS = 2
LENGTH_SCALE = 30.0
"""Lattice length that is encoded as 1, A."""
ANGLE_SCALE = 180.0
"""Lattice angle that is encoded as 1, degrees."""
DECIMALS = 6
"""Decimals of encoded lengths, angles and coordinates: the last digits of a float depend on the
processor, and a coordinate of -1e-17 would become 1 instead of 0."""
PRESENCE_THRESHOLD = 0.4
"""Rows with a larger sum are atoms; the smallest sum of an atom is 0.5."""


def squeeze_coords(frac_coords: NDArray) -> NDArray:
    """Map fractional coordinates from [0, 1] onto [1/6, 5/6]."""
    return (10 * frac_coords + 2.5) / 15


FIRST, LAST = squeeze_coords(np.array([0.0, 1.0])).tolist()
EDGE = LAST - FIRST
"""Length of a cell edge in squeezed coordinates."""


def expand_coords(squeezed: NDArray) -> NDArray:
    """Invert :func:`squeeze_coords` and wrap into [0, 1)."""
    frac_coords = np.mod((15 * squeezed - 2.5) / 10, 1.0)
    # A tiny negative number modulo 1 rounds to 1.
    return np.where(frac_coords >= 1.0, 0.0, frac_coords)


@dataclass(frozen=True)
class DecodedCells:
    """A batch of decoded images, as arrays.

    Attributes
    ----------
    system
        Chemical system that defines the elements of the rows.
    lattice_parameters
        (n, 6): a, b, c in A, alpha, beta, gamma in degrees.
    frac_coords
        (n, max_atoms, 3) in [0, 1); undefined where ``presence`` is False.
    presence
        (n, max_atoms): True for rows that are atoms.
    """

    system: ChemicalSystem
    lattice_parameters: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    presence: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lattice_parameters)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of atoms of each element, (n, n_elements)."""
        per_block = [self.presence[:, block].sum(axis=1) for block in self.system.blocks]
        return np.stack(per_block, axis=1)

    @property
    def reasons(self) -> list[RejectionReason | None]:
        """Reason why each image is invalid, or None."""
        finite = np.isfinite(self.lattice_parameters).all(axis=1) & (
            np.isfinite(self.frac_coords) | ~self.presence[..., None]
        ).all(axis=(1, 2))
        conditions = (
            (~finite, RejectionReason.NOT_FINITE),
            ((self.counts == 0).any(axis=1), RejectionReason.EMPTY_ELEMENT),
            (~possible_cells(self.lattice_parameters), RejectionReason.IMPOSSIBLE_CELL),
        )
        reasons = np.full(len(self), None, dtype=object)
        for failed, reason in reversed(conditions):
            reasons[failed] = reason
        return reasons.tolist()

    def to_structures(self) -> list[Structure | RejectionReason]:
        """Build the structure of each image, or return its rejection reason."""
        symbols = np.repeat(self.system.elements, self.system.max_counts)
        return [
            Structure(
                Lattice.from_parameters(*self.lattice_parameters[i]),
                symbols[self.presence[i]].tolist(),
                self.frac_coords[i, self.presence[i]],
            )
            if reason is None
            else reason
            for i, reason in enumerate(self.reasons)
        ]


def encode(structures: Sequence[Structure], system: ChemicalSystem) -> NDArray[np.float32]:
    """Encode structures as images, with atoms grouped by element.

    Parameters
    ----------
    structures
        Structures with exactly the elements of ``system``.
    system
        Elements and caps.

    Returns
    -------
    Images of shape (n, 2 + max_atoms, 3).

    Raises
    ------
    ValueError
        If a structure has an element outside the system, lacks an element, has more atoms than the
        cap, or a lattice vector longer than 30 A. The message has its position in ``structures``.
    """
    images = np.zeros((len(structures), CELL_ROWS + system.max_atoms, 3), dtype=np.float32)
    for i, structure in enumerate(structures):
        try:
            system.counts(structure)
        except ValueError as error:
            raise ValueError(f"structure {i} does not fit: {error}") from error
        if max(structure.lattice.abc) > LENGTH_SCALE + 1e-6:
            raise ValueError(
                f"structure {i} does not fit: {structure.composition.formula} has a lattice "
                f"vector of {max(structure.lattice.abc):.1f} A, above {LENGTH_SCALE:g}"
            )
        images[i, 0] = np.round(structure.lattice.abc, DECIMALS) / LENGTH_SCALE
        images[i, 1] = np.round(structure.lattice.angles, DECIMALS) / ANGLE_SCALE
        symbols = np.array([site.specie.symbol for site in structure])
        squeezed = squeeze_coords(np.mod(np.round(structure.frac_coords, DECIMALS), 1.0))
        for symbol, block in zip(system.elements, system.blocks, strict=True):
            rows = squeezed[symbols == symbol]
            start = CELL_ROWS + block.start
            images[i, start : start + len(rows)] = rows
    return images


def decode(
    images: NDArray, system: ChemicalSystem, *, presence: NDArray[np.bool_] | None = None
) -> DecodedCells:
    """Decode a batch of images.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3).
    system
        Elements and caps.
    presence
        (n, max_atoms): True for rows that are atoms, as predicted by the classifier. By default a
        row is an atom if its sum exceeds 0.4.

    Returns
    -------
    Cells as arrays; an element without atoms is a rejection reason.

    Raises
    ------
    ValueError
        If the shapes do not match ``system``.
    """
    images = np.asarray(images, dtype=np.float64)
    expected = (CELL_ROWS + system.max_atoms, 3)
    if images.shape[1:] != expected:
        raise ValueError(f"images of shape {images.shape}, {system.chemsys} needs (n, *{expected})")
    rows = images[:, CELL_ROWS:]
    if presence is None:
        presence = rows.sum(axis=2) > PRESENCE_THRESHOLD
    elif presence.shape != rows.shape[:2]:
        raise ValueError(f"presence of shape {presence.shape}, expected {rows.shape[:2]}")
    with np.errstate(invalid="ignore"):
        frac_coords = expand_coords(rows)
    return DecodedCells(
        system=system,
        lattice_parameters=np.concatenate(
            [images[:, 0] * LENGTH_SCALE, images[:, 1] * ANGLE_SCALE], axis=1
        ),
        frac_coords=frac_coords,
        presence=np.asarray(presence, dtype=bool),
    )
