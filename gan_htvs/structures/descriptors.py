"""Numbers that follow from a structure and its magnetic moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


def describe(structure: Structure, magmoms: Sequence[float] | None = None) -> dict[str, Any]:
    """Return composition, density (g/cm^3), volume (A^3 per atom) and magnetization of a structure.

    Parameters
    ----------
    structure
        A crystal.
    magmoms
        Moment of each site, Bohr magnetons; None: unknown.

    Returns
    -------
    Fields of a :class:`gan_htvs.core.candidate.Candidate`.
    """
    return {
        "formula_pretty": structure.composition.reduced_formula,
        "chemsys": structure.composition.chemical_system,
        "nsites": len(structure),
        "density": round(float(structure.density), 6),
        "volume_per_atom": round(structure.volume / len(structure), 6),
        "total_magnetization": None if magmoms is None else round(abs(sum(magmoms)), 6),
    }
