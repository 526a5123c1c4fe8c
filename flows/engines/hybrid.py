"""HSE06 band gaps from VASP, self-consistent, through atomate2's Makers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from atomate2.vasp.jobs.core import HSEBSMaker, HSEStaticMaker
from atomate2.vasp.sets.core import HSEBSSetGenerator, HSEStaticSetGenerator
from jobflow import Flow, OutputReference, Response, job
from pymatgen.io.vasp.sets import MPRelaxSet

from flows.band_gap import BandGapMaker
from flows.engines.vasp import NO_RESTART_FILES, PARSE_NO_BANDS
from flows.engines.vasp_outcome import band_edges, eigenvalues_of, magnetic_state, stored_band_edges
from flows.engines.vasp_step import VaspStepMaker, customized
from flows.naming import formula_of
from flows.routing import TOLERANT, mark
from gan_htvs.campaign.engines import HybridSettings
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.stages import Step

if TYPE_CHECKING:
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from emmet.core.tasks import TaskDoc
    from jobflow import Job

    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.core.candidate import RelaxedStructure

METHOD = "HSE06 (VASP)"

UNCERTAINTY = {
    "static": "band edges on the self-consistent mesh only: up to 0.2 eV too wide",
    "gap": "band edges at the k points of the PBE(+U) edges",
    "uniform_dense": "band edges on the dense mesh",
}
"""Uncertainty from the k points of each mode, besides that of the functional."""


@dataclass
class HybridSetGenerator(HSEBSSetGenerator):
    """HSE06 with the k points of the PBE(+U) band edges at zero weight.

    The edges are found by counting electrons. atomate2 uses VASP's Fermi level, and adds no points
    if it crosses a band.
    """

    @property
    def kpoints_updates(self) -> dict[str, Any]:
        """Return the updates of the k points."""
        if self.mode != "gap":
            return super().kpoints_updates
        edges = self.prev_vasprun and band_edges(self.prev_vasprun)
        added = []
        if edges and not edges.is_metal:
            eigenvalues = eigenvalues_of(self.prev_vasprun)
            points = {
                int(np.argwhere(eigenvalues == edge)[0, 1]) for edge in (edges.vbm, edges.cbm)
            }
            added = [self.prev_vasprun.actual_kpoints[k] for k in sorted(points)]
        return {"reciprocal_density": self.reciprocal_density, "added_kpoints": added}


@dataclass
class VaspBandGapMaker(BandGapMaker):
    """Compute HSE06 gaps of relaxed structures, in the magnetic ordering of their moments.

    +U is off, because the hybrid has exact exchange.

    Parameters
    ----------
    name
        Name of the job that reads the gap, before the formula.
    hybrid_maker
        The calculation of atomate2.
    mode
        K points besides the self-consistent mesh, see
        :class:`gan_htvs.campaign.engines.HybridSettings`.
    max_atoms
        Larger cells are skipped; the reason is stored.
    step_maker
        Runs the calculation; its ``vasp`` and ``name`` are replaced.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from gan_htvs.core.candidate import RelaxedStructure
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> relaxed = RelaxedStructure(
    ...     structure=magnesia, energy_per_atom=-6, level_of_theory="PBE(+U)+MP2020", converged=True
    ... )
    >>> [job.name for job in VaspBandGapMaker().make(relaxed).jobs]
    ['hybrid MgO', 'band gap MgO']
    """

    hybrid_maker: BaseVaspMaker = field(default_factory=lambda: _hybrid_maker(HybridSettings()))
    mode: Literal["static", "gap", "uniform_dense"] = "gap"
    max_atoms: int = 60
    step_maker: VaspStepMaker = field(default_factory=VaspStepMaker)

    @classmethod
    def of(cls, engines: EngineSettings) -> VaspBandGapMaker:
        """Return the Maker for the settings of a campaign."""
        vasp = engines.vasp
        return cls(
            hybrid_maker=customized(_hybrid_maker(vasp.hybrid), vasp, vasp.hybrid.incar),
            mode=vasp.hybrid.mode,
            max_atoms=vasp.hybrid.max_atoms,
            step_maker=VaspStepMaker.of(vasp),
        )

    def make(
        self, relaxed: RelaxedStructure | OutputReference, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of one relaxed structure; see :meth:`BandGapMaker.make`.

        ``previous`` is not used, because only one magnetic ordering is computed.
        """
        del previous
        if isinstance(relaxed, OutputReference):
            return mark(self.make_later(relaxed), Step.BAND_GAP, "other", self.name)
        formula = formula_of(relaxed.structure)
        jobs: list[Job] = []
        n_atoms = len(relaxed.structure)
        if n_atoms > self.max_atoms:
            reason = f"{n_atoms} atoms exceed engines.vasp.hybrid.max_atoms: {self.max_atoms}"
            result: Any = BandGapResult(reason=reason)
        else:
            arguments = {} if self.mode == "static" else {"mode": self.mode}
            step = replace(
                self.step_maker, name="hybrid", vasp=self.hybrid_maker, arguments=arguments
            )
            jobs = [mark(step.make(relaxed), Step.HYBRID, "hybrid", f"hybrid {formula}")]
            result = jobs[0].output
        name = f"{self.name} {formula}"
        read_job = mark(self.read(result, relaxed), Step.BAND_GAP, "other", name)
        return Flow([*jobs, read_job], output=read_job.output, name=name)

    @job
    def make_later(
        self, relaxed: RelaxedStructure | CalculationFailure
    ) -> Response[BandGapResult] | BandGapResult:
        """Replace this job with the jobs of a structure that was not known before."""
        if isinstance(relaxed, CalculationFailure):
            return BandGapResult.from_failure(relaxed)
        return Response(replace=self.make(relaxed))

    @job(config=TOLERANT)
    def read(
        self, result: TaskDoc | CalculationFailure | BandGapResult | None, relaxed: RelaxedStructure
    ) -> BandGapResult:
        """Read the band gap from the output of the hybrid calculation."""
        if isinstance(result, BandGapResult):
            return result
        if result is None:
            return BandGapResult(reason="the hybrid calculation has no output", is_retryable=True)
        if isinstance(result, CalculationFailure):
            return BandGapResult.from_failure(result)
        if any(order.was_killed for order in relaxed.magnetic_orders):
            return BandGapResult(magnetic_orders=relaxed.magnetic_orders)
        return gap_of(result, relaxed, self.mode)


def _hybrid_maker(settings: HybridSettings) -> BaseVaspMaker:
    """Make the hybrid calculation, with the POTCARs of the energy calculations."""
    inputs: dict[str, Any] = {
        # emmet reads IBRION if there is no Fermi level.
        "user_incar_settings": {"ENCUT": settings.cutoff, "EFERMI": "MIDGAP", "IBRION": -1},
        # +U is off, regardless of VASP_INHERIT_INCAR.
        "inherit_incar": False,
        "user_potcar_settings": dict(MPRelaxSet.CONFIG["POTCAR"]),
        "user_potcar_functional": MPRelaxSet.CONFIG["POTCAR_FUNCTIONAL"],
    }
    maker, density = HSEBSMaker, settings.reciprocal_density
    if settings.mode == "static":
        maker = HSEStaticMaker
        generator = HSEStaticSetGenerator(
            user_kpoints_settings={"reciprocal_density": density}, **inputs
        )
    else:
        generator = HybridSetGenerator(
            mode=settings.mode,
            reciprocal_density=density,
            zero_weighted_reciprocal_density=settings.dense_reciprocal_density,
            auto_ispin=False,
            **inputs,
        )
    return maker(
        name="hybrid",
        input_set_generator=generator,
        copy_vasp_kwargs=NO_RESTART_FILES,
        task_document_kwargs=PARSE_NO_BANDS,
    )


def gap_of(task: TaskDoc, relaxed: RelaxedStructure, mode: str) -> BandGapResult:
    """Read the band gap from the document of a converged hybrid calculation."""
    last = task.calcs_reversed[0]
    edges = stored_band_edges(task)
    if edges is None:
        return BandGapResult(
            reason=f"NBANDS = {last.input.parameters['NBANDS']} is too small for the conduction "
            "band edge of each spin; raise it in engines.vasp.hybrid.incar",
            magnetic_orders=relaxed.magnetic_orders,
            is_retryable=False,
        )
    is_on_mesh = mode == "gap" and 0 not in (last.input.kpoints.kpts_weights or ())
    order, total = magnetic_state(task)
    return BandGapResult(
        band_gap=edges.gap,
        is_gap_direct=edges.is_direct,
        vbm=edges.vbm,
        cbm=edges.cbm,
        is_metal=edges.is_metal,
        method=METHOD,
        magnetic_order=order,
        total_magnetization=total,
        magnetic_orders=relaxed.magnetic_orders,
        nsites=len(task.structure),
        cutoff=last.input.parameters.get("ENCUT") or last.input.parameters.get("ENMAX"),
        pbe_gap=relaxed.magnetic_orders[0].pbe_gap if relaxed.magnetic_orders else None,
        seconds=task.run_stats["standard"].elapsed_time if task.run_stats else None,
        vasp_version=last.vasp_version,
        uncertainty=UNCERTAINTY["static" if is_on_mesh else mode],
    )
