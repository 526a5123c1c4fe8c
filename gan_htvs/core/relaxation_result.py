"""Result of a relaxation with an interatomic potential."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.document import Document


class Ending(StrEnum):
    """How a relaxation ended."""

    CONVERGED = "converged"
    OUT_OF_STEPS = "out of steps"
    UNSOUND = "unsound geometry"
    STOPPED = "stopped"
    RAISED = "the potential raised"


class Curve(Document):
    """A relaxation, step by step; the first entry of each list is the start.

    Forces are missing for a last step at which the relaxation was stopped before they were
    computed.
    """

    energies: list[float] = Field(default_factory=list, description="corrected, eV/atom")
    max_forces: list[float] = Field(
        default_factory=list, description="largest force on atoms and cell, eV/A"
    )
    volumes: list[float] = Field(default_factory=list, description="A^3/atom")


class RelaxationResult(Document):
    """Result of relaxing one structure.

    A relaxation that ended early keeps its last structure in ``relaxed``, marked as not converged.
    There is no structure if the potential raised.
    """

    ending: Ending
    reason: str | None = Field(None, description="why it did not converge")
    relaxed: RelaxedStructure | None = None
    curve: Curve = Field(default_factory=Curve)
    would_stop_at: int | None = Field(
        None, description="step at which it was stopped, or would have been without an audit"
    )
    cpu_seconds: float = Field(0.0, description="processor time, s")
