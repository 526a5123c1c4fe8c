"""Agreement of a second potential with the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.core.properties import ENERGY_ABOVE_HULL, PROPERTIES
from gan_htvs.core.settings import Settings

if TYPE_CHECKING:
    from gan_htvs.core.candidate import Curve

LOOK_BACK = 5
"""Steps over which the decrease of the energy of the second potential is measured."""


class Agreement(Settings):
    """Stop the relaxation of a second potential once it agrees, or can no longer agree.

    The estimate assumes that no remaining step lowers the energy more than the best of the last
    ``LOOK_BACK`` steps.
    """

    hull: float
    window: float
    first: float
    disagreement: float
    max_steps: int

    def __call__(self, curve: Curve) -> str | None:
        """Return why the relaxation is stopped; None if it continues."""
        if self.refusal(curve.energies[-1]) is None:
            return "agrees"
        lowest = min(curve.energies)
        missing = lowest - self.hull - min(self.window, self.first + self.disagreement)
        n_steps = len(curve.energies) - 1
        if missing <= 0 and lowest == curve.energies[-1]:
            return "is too low, and decreases"
        if n_steps < LOOK_BACK:
            return None
        decrease = -min(np.diff(curve.energies)[-LOOK_BACK:])
        return "decreases too slowly" if decrease * (self.max_steps - n_steps) < missing else None

    def refusal(self, energy_per_atom: float) -> str | None:
        """Return why an energy of the second potential, eV/atom, does not confirm the first."""
        above = energy_per_atom - self.hull
        disagreement = above - self.first
        if abs(disagreement) > self.disagreement:
            return f"the potentials disagree by {disagreement:+.3f} eV/atom"
        if above > self.window:
            return PROPERTIES[ENERGY_ABOVE_HULL].compare(above, f"> {self.window:g}")
        return None
