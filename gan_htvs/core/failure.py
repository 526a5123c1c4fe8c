"""What a calculation leaves that failed."""

from __future__ import annotations

from pydantic import Field

from gan_htvs.core.document import Document


def is_machine_error(error: Exception) -> bool:
    """Return whether memory, disk or set-up of the machine caused an error, not the calculation.

    GPAW raises a FileNotFoundError without an error number for an element without a setup.
    """
    return isinstance(error, MemoryError | OSError) and getattr(error, "errno", 0) is not None


class CalculationFailure(Document):
    """What a job leaves that could not do its calculation: everything that a person would ask."""

    step: str = Field(description="name of the calculation, such as 'AFM relax 2'")
    reason: str
    folder: str = Field(description="host:path of what it left")
    corrections: list[str] = Field(
        default_factory=list, description="errors that custodian corrected before it gave up"
    )
    is_retryable: bool = Field(
        default=False,
        description="whether the same calculation may succeed another time: it was stopped or "
        "killed, or the machine failed",
    )
    job: str = Field(description="uuid of the job, to run it again")
