"""Collinear magnetic orderings as starting points of spin-polarized calculations.

The ferromagnetic ordering has parallel moments. In antiferromagnetic orderings strongly coupled
moments are antiparallel (:mod:`gan_htvs.magnetism.magnetic_orderings`); the couplings are estimated
from the geometry. The orderings are not predictions: all are converged, and the one of lowest
energy is kept.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import spglib
from pymatgen.analysis.magnetism.analyzer import MagneticStructureEnumerator
from pymatgen.command_line import enumlib_caller
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.magnetism.magnetic_orderings import antiferromagnetic_orderings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SYMPREC = 0.01
"""Tolerance of the symmetrization of a relaxed structure, A."""

MAGNETIC_3D = frozenset({"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"})
"""3d elements whose d shell can be partly filled in an oxide (not Sc and Zn)."""

MOMENT_THRESHOLD = 0.3
"""Smaller starting moments are treated as induced and set to zero, Bohr magnetons."""

SAME_MOMENT = 0.3
"""Largest difference of moments of equivalent sites, Bohr magnetons."""


def magnetic_starts(
    structure: Structure,
    magmoms: Sequence[float] | None = None,
    *,
    orders: Sequence[Literal["FM", "AFM"]] = ("FM", "AFM"),
    max_afm: int = 1,
) -> dict[str, Structure]:
    """Generate starting magnetic orderings of a structure, deterministically.

    Parameters
    ----------
    structure
        Ordered crystal.
    magmoms
        Moment of each site, Bohr magnetons, see :func:`starting_moments`. Moments of both signs
        define an additional ordering, which comes first.
    orders
        Orderings to generate for a magnetic structure.
    max_afm
        Largest number of antiferromagnetic or ferrimagnetic orderings for "AFM", see
        :func:`gan_htvs.magnetism.magnetic_orderings.antiferromagnetic_orderings`.

    Returns
    -------
    Symmetrized primitive cell of each ordering, with moments as site property ``magmom`` (Bohr
    magnetons), by name: NM (no magnetic site), given (signs of the given moments), FM (all
    parallel) or AFM, AFM-2, AFM-3, ... (other orderings, lowest coupling energy first).

    Raises
    ------
    ValueError
        If ``magmoms`` does not have one number per site, or no ordering is requested.
    """
    if not set(orders) & ({"FM", "AFM"} if max_afm > 0 else {"FM"}):
        raise ValueError(f"{orders=} with {max_afm=} request no ordering of a magnetic structure")
    moments = starting_moments(structure, magmoms)
    parallel = magnetic_primitive(structure, np.abs(moments).tolist())
    if not any(moments):
        return {"NM": parallel}
    starts = {}
    if _has_both_signs(moments):
        starts["given"] = magnetic_primitive(structure, moments)
    for order in orders:
        if order == "FM":
            starts["FM"] = parallel
        else:
            starts |= _antiparallel(islice(antiferromagnetic_orderings(parallel), max_afm))
    return starts


def enumerated_starts(structure: Structure, *, max_afm: int) -> dict[str, Structure]:
    """Generate the magnetic orderings of pymatgen's ``MagneticStructureEnumerator``.

    These are the orderings of atomate2's ``MagneticOrderingsMaker``, and of Horton et al., npj
    Comput. Mater. 5, 64 (2019): in the primitive cell, or in larger cells of up to four magnetic
    sites, the most symmetric first. Couplings are not considered.

    Parameters
    ----------
    structure
        Ordered crystal; the moments are those of :func:`starting_moments`.
    max_afm
        Largest number of orderings besides the ferromagnetic one.

    Returns
    -------
    As for :func:`magnetic_starts`.

    Raises
    ------
    UserError
        If the programs of enumlib are not installed.
    CalculationError
        If pymatgen cannot enumerate the orderings, as for more than eight inequivalent sites.
    """
    starts = magnetic_starts(structure, orders=("FM",))
    if "NM" in starts or not max_afm:
        return starts
    if not (enumlib_caller.ENUM_CMD and enumlib_caller.MAKESTR_CMD):
        raise UserError(
            "magnetic orderings by enumlib: enum.x or makestr.x is not on PATH; install both "
            "(conda install -c conda-forge enumlib), or use the orderings ranked by couplings."
        )
    crystal = starts["FM"].copy()
    crystal.remove_site_property("magmom")
    defaults = {symbol: _default_moment(symbol) for symbol in MAGNETIC_3D}
    try:
        enumerator = MagneticStructureEnumerator(crystal, default_magmoms=defaults)
    except (ValueError, RuntimeError) as error:
        formula = crystal.composition.reduced_formula
        raise CalculationError(f"magnetic orderings of {formula} by enumlib: {error}") from error
    cells = (_moments_for_spins(cell) for cell in enumerator.ordered_structures)
    mixed = (cell for cell in cells if _has_both_signs(cell.site_properties["magmom"]))
    return starts | _antiparallel(islice(mixed, max_afm))


def _moments_for_spins(decorated: Structure) -> Structure:
    """Convert the spins of species to the site property ``magmom``."""
    moments = [float(getattr(species, "spin", None) or 0) for species in decorated.species]
    symbols = [species.symbol for species in decorated.species]
    properties = {"magmom": moments}
    return Structure(decorated.lattice, symbols, decorated.frac_coords, site_properties=properties)


def _has_both_signs(moments: Sequence[float]) -> bool:
    return min(moments) < 0 < max(moments)


def _antiparallel(cells: Iterable[Structure]) -> dict[str, Structure]:
    """Reduce and name cells with moments as site property ``magmom``."""
    return {
        "AFM" if number == 1 else f"AFM-{number}": magnetic_primitive(
            cell, cell.site_properties["magmom"]
        )
        for number, cell in enumerate(cells, start=1)
    }


def starting_moments(structure: Structure, magmoms: Sequence[float] | None = None) -> list[float]:
    """Return the starting moments, Bohr magnetons.

    If a given moment exceeds ``MOMENT_THRESHOLD``, the given moments are used, with smaller ones
    set to zero. Otherwise 3d elements that can be magnetic get parallel moments with the values of
    the Materials Project.

    Raises
    ------
    ValueError
        If ``magmoms`` does not have one number per site.
    """
    if magmoms is not None:
        if len(magmoms) != len(structure):
            raise ValueError(f"{len(magmoms)=} differs from {len(structure)=}")
        kept = [float(m) if abs(m) > MOMENT_THRESHOLD else 0.0 for m in magmoms]
        if any(kept):
            return kept
    return [_default_moment(site.specie.symbol) for site in structure]


def _default_moment(symbol: str) -> float:
    if symbol not in MAGNETIC_3D:
        return 0.0
    return float(MPRelaxSet.CONFIG["INCAR"]["MAGMOM"].get(symbol, 0.6))


def magnetic_primitive(structure: Structure, moments: Sequence[float]) -> Structure:
    """Find the symmetrized primitive cell in which equivalent sites have equal moments.

    An antiferromagnetic ordering keeps its magnetic cell.

    Parameters
    ----------
    structure
        Ordered crystal.
    moments
        (n_sites,), Bohr magnetons.
    """
    groups = _moment_groups([site.specie.symbol for site in structure], moments)
    kinds = sorted(set(groups))
    types = [kinds.index(group) for group in groups]
    means = [np.mean(np.asarray(moments)[np.equal(types, number)]) for number in range(len(kinds))]
    cell = (structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), types)
    lattice, coords, types = (
        spglib.standardize_cell(cell, to_primitive=True, no_idealize=False, symprec=SYMPREC) or cell
    )
    return Structure(
        Lattice(lattice),
        [kinds[number][0] for number in types],
        coords,
        site_properties={"magmom": [float(means[number]) for number in types]},
    )


def _moment_groups(symbols: Sequence[str], moments: Sequence[float]) -> list[tuple[str, int]]:
    """Label sites by element and group of similar moments."""
    groups: list[tuple[str, int]] = [("", 0)] * len(symbols)
    for symbol in set(symbols):
        sites = [site for site, other in enumerate(symbols) if other == symbol]
        sites.sort(key=lambda site: moments[site])
        steps = np.diff([moments[site] for site in sites], prepend=-np.inf)
        for site, number in zip(sites, np.cumsum(steps > SAME_MOMENT), strict=True):
            groups[site] = (symbol, int(number))
    return groups
