"""Plausibility of energies far below the hull.

Energies far below the hull of complete references are artifacts of the potential. If reference
phases are missing, they may be real: layered LiMnO2 is far below a hull without any LiMnO2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

LOWEST_PLAUSIBLE = -0.1
"""Lowest plausible decomposition energy into complete references, eV/atom."""

LOWEST_OF_INCOMPLETE = -0.3
"""Lowest plausible decomposition energy into references that may lack phases, eV/atom."""

SETTING = "references.lowest_decomposition_energy"
"""Setting that replaces both."""


def lowest_plausible(setting: float | None, uncovered: Collection[str] = ()) -> float:
    """Return the lowest plausible decomposition energy into reference phases, eV/atom.

    Parameters
    ----------
    setting
        Value of the setting, or None.
    uncovered
        Subsystems of the composition without a reference phase.
    """
    if setting is not None:
        return setting
    return LOWEST_OF_INCOMPLETE if uncovered else LOWEST_PLAUSIBLE


def implausible_reason(decomposition_energy: float, lowest: float) -> str | None:
    """Return why a decomposition energy is implausible, or None; energies in eV/atom."""
    if decomposition_energy >= lowest:
        return None
    return (
        f"decomposition energy {decomposition_energy:.3f} < {lowest:g} eV/atom ({SETTING}): "
        "implausible, a hole of the potential or missing reference phases"
    )
