"""Document of a failed calculation."""

from __future__ import annotations

from pydantic import Field

from gan_htvs.core.document import Document


def is_machine_error(error: Exception) -> bool:
    """Return whether memory, disk or setup of the machine caused an error.

    GPAW raises a FileNotFoundError without an error number for an element without a setup.
    """
    return isinstance(error, MemoryError | OSError) and getattr(error, "errno", 0) is not None


class CalculationFailure(Document):
    """Output of a failed calculation."""

    step: str = Field(description="name of the calculation, such as 'AFM relax 2'")
    reason: str
    folder: str = Field(description="host:path of its files")
    corrections: list[str] = Field(
        default_factory=list, description="errors that custodian corrected before the failure"
    )
    is_retryable: bool = Field(
        default=False,
        description="whether the same calculation may succeed when repeated, because it was "
        "stopped or killed, or the machine failed",
    )
    job: str = Field(description="uuid of the job, for running it again")

    @property
    def message(self) -> str:
        """Step and reason in one sentence."""
        return f"{self.step}: {self.reason}"
