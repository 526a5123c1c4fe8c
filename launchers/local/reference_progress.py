"""Progress of the relaxations of reference phases on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.energy import PotentialEnergyMaker
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jobflow import Job


class ReferenceProgress:
    """Counts the reference phases that interatomic potentials have relaxed.

    The journals of the jobs are read, in which an interrupted job also finds its finished phases.
    Phases of VASP are not counted, since each has jobs of its own.

    Parameters
    ----------
    jobs
        Jobs of reference sets whose outputs are not stored yet.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._journals: dict[Path, tuple[int, int]] = {}
        self._total = 0
        for job in jobs:
            if isinstance(job.maker, PotentialEnergyMaker) and _step(job) == Step.REFERENCES:
                (structures,) = job.function_args
                if (journal := job.maker.references_journal(structures)) is not None:
                    self._journals[journal] = (-1, 0)
                    # Equal structures are relaxed once.
                    self._total += len({content_hash(cell) for cell in structures.values()})

    def counts(self) -> tuple[int, int] | None:
        """Return the number of relaxed phases and the total; None if there are none."""
        if not self._total:
            return None
        for journal, (known_size, _) in self._journals.items():
            size = journal.stat().st_size if journal.exists() else 0
            if size != known_size:  # journals of finished jobs are not read again
                lines = journal.read_bytes().count(b"\n") if size else 0
                self._journals[journal] = (size, lines)
        done = sum(lines for _, lines in self._journals.values())
        return min(done, self._total), self._total


def _step(job: Job) -> str | None:
    step: str | None = job.metadata.get("step")
    return step
