"""Plausibility of energies of interatomic potentials."""

from __future__ import annotations

LOWEST_PLAUSIBLE = -0.1
"""Lowest plausible energy above hull, eV/atom; lower ones are artifacts of the potential."""


def is_plausible(energy_above_hull: float) -> bool:
    """Return whether an energy above hull (eV/atom) is not too far below the hull."""
    return energy_above_hull >= LOWEST_PLAUSIBLE


def implausible_reason(energy_above_hull: float) -> str:
    """Return why an energy above hull (eV/atom) is implausible."""
    return (
        f"energy above hull {energy_above_hull:.3f} < {LOWEST_PLAUSIBLE:g} eV/atom: "
        "implausible, probably a hole of the potential"
    )
