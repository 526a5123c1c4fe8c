"""Makers that compute the band gap of a relaxed structure."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Job, Maker, OutputReference, job

from flows.engines.gpaw import availability, compute_gap
from flows.naming import formula_of
from flows.routing import mark
from gan_htvs.campaign.engines import BandGapEngineSettings
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.stages import Step


@dataclass
class BandGapMaker(Maker):
    """Base of the Makers that compute band gaps.

    Any object with the same methods can replace a subclass.
    """

    name: str = "band gap"

    def unavailable_reason(self) -> str | None:
        """Return why this machine cannot compute gaps; None if it can."""
        return None

    def make(
        self, relaxed: RelaxedStructure | OutputReference, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of one relaxed structure.

        Parameters
        ----------
        relaxed
            Relaxed structure with its magnetic moments, or the output of an
            :class:`~flows.energy.EnergyMaker`.
        previous
            Incomplete result for the same structure; only what is missing is computed.

        Returns
        -------
        A job or flow whose output is a :class:`~gan_htvs.core.band_gap.BandGapResult`.
        """
        raise NotImplementedError


@dataclass
class GpawBandGapMaker(BandGapMaker):
    """Compute one-shot HSE06 gaps with GPAW, in a separate process.

    Parameters
    ----------
    name
        Name of the job, before the formula.
    settings
        Cutoff, k points, magnetic orderings and limits.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from gan_htvs.core.candidate import RelaxedStructure
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> relaxed = RelaxedStructure(
    ...     structure=magnesia, energy_per_atom=-6.31, level_of_theory="CHGNet", converged=True
    ... )
    >>> GpawBandGapMaker().make(relaxed).name
    'band gap MgO'
    """

    settings: BandGapEngineSettings = field(default_factory=BandGapEngineSettings)

    def unavailable_reason(self) -> str | None:
        """Return why GPAW cannot run here; None if it can."""
        return availability()

    def make(
        self, relaxed: RelaxedStructure | OutputReference, previous: BandGapResult | None = None
    ) -> Job:
        """Make the job of one relaxed structure; see :meth:`BandGapMaker.make`."""
        gap_job = self.compute(relaxed, previous=previous)
        is_known = isinstance(relaxed, RelaxedStructure)
        name = f"{self.name} {formula_of(relaxed.structure)}" if is_known else self.name
        return mark(gap_job, Step.BAND_GAP, "hybrid", name)

    @job
    def compute(
        self,
        relaxed: RelaxedStructure | CalculationFailure,
        previous: BandGapResult | None = None,
    ) -> BandGapResult:
        """Compute the band gap in the directory of the job."""
        if isinstance(relaxed, CalculationFailure):
            return BandGapResult.from_failure(relaxed)
        return compute_gap(
            relaxed.structure,
            self.settings,
            magmoms=relaxed.magmoms,
            workdir=".",
            previous=previous,
        )
