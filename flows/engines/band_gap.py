"""What a band gap engine is, and which one a campaign asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jobflow import CURRENT_JOB, job

from flows.engines.gpaw import availability, compute_gap
from flows.engines.hybrid import HybridEngine
from flows.steps import READS_STORE, stored_outputs
from gan_htvs.engines import VASP_ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobflow import Job, OutputReference

    from gan_htvs.bandgap import BandGapResult
    from gan_htvs.candidate import Relaxed
    from gan_htvs.engines import BandGapEngineSettings, EngineSettings


class BandGapEngine(Protocol):
    """Computes band gaps, as jobs."""

    @property
    def content(self) -> Any:
        """The settings that decide its results; jobs are named by them."""

    def obstacle(self) -> str | None:
        """Say what keeps it from computing gaps on this machine; None if nothing does."""

    def calculations(
        self, relaxed: Relaxed, uuid_of: Callable[[str], str], source: OutputReference
    ) -> dict[str, Job]:
        """Make the jobs for one relaxed structure, by the value of their Step, in order.

        The output of the last one is a :class:`~gan_htvs.bandgap.BandGapResult`. ``uuid_of`` turns
        a name into the uuid of the job; ``source`` is where the relaxed structure is stored.
        """


def band_gap_engine(settings: EngineSettings) -> BandGapEngine:
    """Make the engine that campaign.yaml asks for."""
    if settings.band_gap.name in VASP_ENGINES:
        return HybridEngine(settings)
    return GpawEngine(settings.band_gap)


@dataclass(frozen=True)
class GpawEngine:
    """One-shot HSE06 of GPAW, or a word on why there is none."""

    settings: BandGapEngineSettings

    @property
    def content(self) -> dict[str, Any]:
        """The settings that decide its results; neither the cores nor the time limit do."""
        return self.settings.model_dump(mode="json", exclude={"mpi_command", "max_seconds"})

    def obstacle(self) -> str | None:
        """Say what keeps it from computing gaps on this machine; None if nothing does."""
        if self.settings.name == "none":
            return "switched off by engines.band_gap.name: none"
        return availability()

    def calculations(
        self, relaxed: Relaxed, uuid_of: Callable[[str], str], source: OutputReference
    ) -> dict[str, Job]:
        """Make the job ``band gap``."""
        del relaxed  # the job reads it
        gap_job = band_gap(source, self.settings)
        gap_job.set_uuid(uuid_of("band gap"))
        return {"band gap": gap_job}


@job(config=READS_STORE)
def band_gap(relaxed: Relaxed, settings: BandGapEngineSettings) -> BandGapResult:
    """Compute the band gap in a process of its own, in the directory of the job.

    What an earlier run of this job stored is completed.
    """
    uuid = CURRENT_JOB.job.uuid
    previous = stored_outputs([uuid]).get(uuid)
    return compute_gap(
        relaxed.structure, settings, magmoms=relaxed.magmoms, workdir=".", previous=previous
    )
