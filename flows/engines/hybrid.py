"""HSE06 band gaps from VASP, self-consistent, through atomate2's Makers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from atomate2.vasp.jobs.core import HSEBSMaker, HSEStaticMaker
from atomate2.vasp.sets.core import HSEBSSetGenerator, HSEStaticSetGenerator
from jobflow import job
from pymatgen.io.vasp.sets import MPRelaxSet

from flows.engines.vasp import NO_RESTART_FILES, PARSE_NO_BANDS
from flows.engines.vasp_outcome import band_edges, levels_of, magnetic_state, stored_band_edges
from flows.engines.vasp_step import FOLLOWS_ANYTHING, VaspStepMaker
from gan_htvs.bandgap import BandGapResult
from gan_htvs.engines import REHEARSAL
from gan_htvs.failures import CalculationFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from atomate2.vasp.jobs.base import BaseVaspMaker
    from emmet.core.tasks import TaskDoc
    from jobflow import Job, OutputReference

    from gan_htvs.candidate import Relaxed
    from gan_htvs.engines import EngineSettings

METHOD = "HSE06 (VASP)"

UNCERTAINTY = {
    "static": "band edges on the self-consistent mesh only: up to 0.2 eV too wide",
    "gap": "band edges at the k points of the PBE(+U) edges",
    "uniform_dense": "band edges on the dense mesh",
}
"""What the k points of each mode leave open, besides the functional itself."""


@dataclass
class HybridSetGenerator(HSEBSSetGenerator):
    """HSE06 with the k points of the PBE(+U) band edges at weight zero, found by counted electrons.

    atomate2 finds them by VASP's Fermi level, and adds none where that cuts a band.
    """

    @property
    def kpoints_updates(self) -> dict[str, Any]:
        """Return the updates of the k points."""
        if self.mode != "gap":
            return super().kpoints_updates
        edges = self.prev_vasprun and band_edges(self.prev_vasprun)
        added = []
        if edges and not edges.is_metal:
            levels = levels_of(self.prev_vasprun)
            points = {int(np.argwhere(levels == edge)[0, 1]) for edge in (edges.vbm, edges.cbm)}
            added = [self.prev_vasprun.actual_kpoints[k] for k in sorted(points)]
        return {"reciprocal_density": self.reciprocal_density, "added_kpoints": added}


@dataclass(frozen=True)
class HybridEngine:
    """HSE06 at the relaxed structure, in the magnetic order of its moments.

    +U is off: the exchange of the hybrid takes its place.
    """

    settings: EngineSettings

    @property
    def content(self) -> dict[str, Any]:
        """The settings that decide its results."""
        vasp = self.settings.vasp.content
        shared = {name: vasp[name] for name in ("hybrid", "potcar_functional", "powerups")}
        return shared | {"name": self.settings.band_gap.name}

    def obstacle(self) -> str | None:
        """Say what keeps it from computing gaps: nothing that one machine could tell."""
        return None

    def calculations(
        self, relaxed: Relaxed, uuid_of: Callable[[str], str], source: OutputReference
    ) -> dict[str, Job]:
        """Make the jobs ``hybrid``, which runs VASP, and ``band gap``, which reads the result."""
        settings = self.settings.vasp.hybrid
        jobs: dict[str, Job] = {}
        n_atoms = len(relaxed.structure)
        if n_atoms > settings.max_atoms:
            found: Any = BandGapResult.not_computed(
                f"{n_atoms} atoms exceed engines.vasp.hybrid.max_atoms: {settings.max_atoms}"
            )
        else:
            maker, arguments = self._maker()
            step = VaspStepMaker.of(maker, self.settings, settings.incar, **arguments)
            jobs["hybrid"] = step.make(source)
            jobs["hybrid"].set_uuid(uuid_of("hybrid"))
            found = jobs["hybrid"].output
        jobs["band gap"] = read_gap(found, source, self.settings)
        jobs["band gap"].set_uuid(uuid_of("band gap"))
        return jobs

    def _maker(self) -> tuple[BaseVaspMaker, dict[str, Any]]:
        """Make the Maker, with the POTCARs of the energies, and what it is called with."""
        hybrid = self.settings.vasp.hybrid
        common = {
            # emmet reads IBRION where there is no Fermi level.
            "user_incar_settings": {"ENCUT": hybrid.cutoff, "EFERMI": "MIDGAP", "IBRION": -1},
            # Whatever VASP_INHERIT_INCAR says: +U is off.
            "inherit_incar": False,
            "user_potcar_settings": dict(MPRelaxSet.CONFIG["POTCAR"]),
        }
        if hybrid.mode == "static":
            mesh = {"reciprocal_density": hybrid.reciprocal_density}
            inputs = HSEStaticSetGenerator(user_kpoints_settings=mesh, **common)
            maker = HSEStaticMaker(
                name="hybrid", input_set_generator=inputs, task_document_kwargs=PARSE_NO_BANDS
            )
            return maker, {}
        inputs = HybridSetGenerator(
            mode=hybrid.mode,
            reciprocal_density=hybrid.reciprocal_density,
            zero_weighted_reciprocal_density=hybrid.dense_reciprocal_density,
            auto_ispin=False,
            **common,
        )
        maker = HSEBSMaker(
            name="hybrid",
            input_set_generator=inputs,
            copy_vasp_kwargs=NO_RESTART_FILES,
            task_document_kwargs=PARSE_NO_BANDS,
        )
        return maker, {"mode": hybrid.mode}


@job(config=FOLLOWS_ANYTHING)
def read_gap(
    found: TaskDoc | CalculationFailure | BandGapResult | None,
    relaxed: Relaxed,
    settings: EngineSettings,
) -> BandGapResult:
    """Read the band gap from what the hybrid calculation left."""
    if isinstance(found, BandGapResult):
        return found
    if found is None:
        return BandGapResult.not_computed("the hybrid calculation left nothing")
    if isinstance(found, CalculationFailure):
        reason = f"{found.step}: {found.reason}"
        return BandGapResult.not_computed(reason, failure=found, is_retryable=found.is_retryable)
    return gap_of(found, relaxed, settings)


def gap_of(task: TaskDoc, relaxed: Relaxed, settings: EngineSettings) -> BandGapResult:
    """Read the band gap from the document of a converged hybrid calculation."""
    last = task.calcs_reversed[0]
    edges = stored_band_edges(task)
    if edges is None:
        return BandGapResult.not_computed(
            f"NBANDS = {last.input.parameters['NBANDS']} is too small to hold the conduction band "
            "edge of each spin; raise it in engines.vasp.hybrid.incar",
            magnetic_orders=relaxed.magnetic_orders,
        )
    mode = settings.vasp.hybrid.mode
    is_on_mesh = mode == "gap" and 0 not in (last.input.kpoints.kpts_weights or ())
    order, total = magnetic_state(task)
    return BandGapResult(
        band_gap=edges.gap,
        is_gap_direct=edges.is_direct,
        vbm=edges.vbm,
        cbm=edges.cbm,
        is_metal=edges.is_metal,
        method=REHEARSAL if settings.is_rehearsal else METHOD,
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
