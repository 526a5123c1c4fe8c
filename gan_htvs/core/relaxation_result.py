"""Result of a relaxation with an interatomic potential."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.document import Document


class Ending(StrEnum):
    """Outcomes of a relaxation."""

    CONVERGED = "converged"
    OUT_OF_STEPS = "out of steps"
    UNSOUND = "unsound geometry"
    STOPPED = "stopped"
    RAISED = "the potential raised"


class Curve(Document):
    """Energies, forces and volumes by relaxation step, starting with the initial structure.

    The last forces are missing if the relaxation was stopped before they were computed.
    """

    energies: list[float] = Field(default_factory=list, description="corrected, eV/atom")
    max_forces: list[float] = Field(
        default_factory=list, description="largest force on atoms and cell, eV/A"
    )
    volumes: list[float] = Field(default_factory=list, description="A^3/atom")


class RelaxationResult(Document):
    """Result of relaxing one structure.

    If the relaxation ended early, ``relaxed`` is its last structure, marked as not converged. It is
    None if the potential raised an error.
    """

    ending: Ending
    reason: str | None = Field(None, description="why it did not converge")
    relaxed: RelaxedStructure | None = None
    curve: Curve = Field(default_factory=Curve)
    would_stop_at: int | None = Field(
        None, description="step at which it was stopped, or would have been without an audit"
    )
    cpu_seconds: float = Field(0.0, description="processor time, s")
