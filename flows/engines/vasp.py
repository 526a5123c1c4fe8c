"""Energies from VASP at the settings of the Materials Project, through atomate2's Makers.

Each magnetic order to start from is relaxed twice and gets a static calculation; the order of
lowest energy stands for the structure. The inputs are those of pymatgen's ``MPRelaxSet`` and
``MPStaticSet`` (PBE, +U in oxides), so that the MP2020 corrections apply and the phases of the
Materials Project may be compared with; atomate2's own defaults are PBEsol.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
from emmet.core.tasks import TaskDoc

from flows.engines.forcefield import ForceFieldEngine, n_relaxation_steps
from flows.engines.vasp_outcome import magnetic_state, stored_band_edges
from flows.engines.vasp_step import VaspStepMaker
from gan_htvs.bandgap import MagneticOrderResult
from gan_htvs.candidate import Relaxed, volume_change
from gan_htvs.errors import CalculationError
from gan_htvs.failures import CalculationFailure
from gan_htvs.magnetism import enumerated_starts, magnetic_starts
from gan_htvs.thermodynamics.corrections import energy_correction, level_of_theory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jobflow import Job, OutputReference
    from pymatgen.core import Structure

    from gan_htvs.engines import EngineSettings
    from gan_htvs.magnetism import MagneticStart

NO_RESTART_FILES: dict[str, Any] = {"additional_vasp_files": ()}
"""atomate2's Makers copy WAVECAR, which the Materials Project's LWAVE = F does not write, and
CHGCAR, which VASP does not read without ICHARG."""

PRE_RELAXATION = "pre-relax"
"""Ends the name of the job that a potential does before VASP."""

PARSE_NO_BANDS = {"parse_dos": False, "parse_bandstructure": False}
"""Densities of states and bands are megabytes a candidate; vasprun.xml keeps them. Nor is VASP's
Fermi level needed, without which atomate2 cannot parse them."""


@dataclass(frozen=True)
class VaspEngine:
    """PBE(+U) of VASP, or of its stand-in."""

    settings: EngineSettings

    @property
    def level_of_theory(self) -> str:
        """Label of its energies, with the POTCARs if they are others than the corrections want."""
        label = level_of_theory(self.settings.energy.name).label
        functional = self.settings.vasp.potcar_functional
        usual = functional == "PBE" or self.settings.is_rehearsal
        return label if usual else f"{label} ({functional})"

    @property
    def content(self) -> dict[str, Any]:
        """The settings that decide its results."""
        vasp = self.settings.vasp
        content = vasp.content | {"name": self.settings.energy.name}
        del content["hybrid"]
        if vasp.pre_relaxation:
            content["potential"] = self.settings.potential.model_dump(mode="json")
        return content

    def calculations(
        self,
        structure: Structure,
        uuid_of: Callable[[str], str],
        source: OutputReference | None = None,
        *,
        is_reference: bool = False,
    ) -> dict[str, Job]:
        """Make the jobs ``ORDER relax 1``, ``ORDER relax 2`` and ``ORDER static`` of each order.

        With ``engines.vasp.pre_relaxation`` there is an ``ORDER pre-relax`` before them. Each order
        starts from a structure of its own, with moments and often a larger cell, so that the first
        job of each holds it.
        """
        del source
        starts = self._starts(structure)
        return dict(
            each for start in starts for each in self._calculations(start, uuid_of, is_reference)
        )

    def _starts(self, structure: Structure) -> Sequence[MagneticStart]:
        vasp = self.settings.vasp
        if vasp.orderings == "enumlib":
            with suppress(CalculationError):  # too many magnetic sites: the ferromagnet alone
                return enumerated_starts(structure, max_afm=vasp.max_afm)
            return magnetic_starts(structure, max_afm=0)
        return magnetic_starts(structure, max_afm=vasp.max_afm)

    def _calculations(
        self, start: MagneticStart, uuid_of: Callable[[str], str], is_reference: bool
    ) -> list[tuple[str, Job]]:
        """Make the jobs of one order, each with the name that it has."""
        jobs: list[tuple[str, Job]] = []
        before: Any = start.structure
        formula = start.structure.composition.reduced_formula
        if self.settings.vasp.pre_relaxation:
            relax = ForceFieldEngine(self.settings.potential).relax(start.structure)
            relax.set_uuid(uuid_of(name := f"{start.name} {PRE_RELAXATION}"))
            relax.name = f"{name} {formula}"
            jobs.append((name, relax))
            before = relax.output
        moments = start.structure.site_properties["magmom"]
        # Parallel ones are left to MPRelaxSet, which gives some to the other elements, too.
        magmoms = moments if min(moments) < 0 else None
        incar = self.settings.vasp.incar
        double = MPGGADoubleRelaxStaticMaker()
        makers = {
            "relax 1": double.relax_maker.relax_maker1,
            "relax 2": double.relax_maker.relax_maker2,
            "static": double.static_maker,
        }
        for step, maker in makers.items():
            name = f"{start.name} {step}"
            vasp = replace(
                maker,
                name=name,
                task_document_kwargs=PARSE_NO_BANDS,
                copy_vasp_kwargs=NO_RESTART_FILES,
            )
            step_maker = VaspStepMaker.of(vasp, self.settings, incar)
            step_maker.is_reference = is_reference
            energy_job = step_maker.make(before, magmoms)
            energy_job.set_uuid(uuid_of(name))
            energy_job.name = f"{name} {formula}"
            jobs.append((name, energy_job))
            before, magmoms = energy_job.output, None
        return jobs

    def summarise(self, structure: Structure, outputs: Mapping[str, Any]) -> Relaxed:
        """Choose the magnetic order of lowest energy.

        Raises
        ------
        CalculationError
            If no order has an energy.
        """
        orders: list[tuple[float, MagneticOrderResult, TaskDoc]] = []
        failed: list[MagneticOrderResult] = []
        failures: list[CalculationFailure] = []
        for start in (name.removesuffix(" static") for name in outputs if name.endswith("static")):
            static = outputs[f"{start} static"]
            if isinstance(static, TaskDoc):
                orders.append((static.output.energy_per_atom, _order(start, static), static))
                continue
            if isinstance(static, CalculationFailure):
                failures.append(static)
            reason = f"{static.step}: {static.reason}" if static else "it left nothing"
            may_succeed = not static or static.is_retryable
            failed.append(MagneticOrderResult(start=start, reason=reason, is_retryable=may_succeed))
        if not orders:
            first = failures[0] if failures else None
            raise CalculationError(failed[0].reason or "no magnetic order", first)
        orders.sort(key=lambda each: each[0])
        energy, lowest, static = orders[0]
        correction = energy_correction(static.structure, energy, self.settings.energy.name)
        pre_relaxation = outputs.get(f"{lowest.start} {PRE_RELAXATION}")
        return Relaxed(
            structure=static.structure,
            energy_per_atom=energy + correction,
            correction_per_atom=correction,
            level_of_theory=self.level_of_theory,
            converged=True,
            magmoms=static.structure.site_properties.get("magmom"),
            n_steps=sum(
                len(outputs[f"{lowest.start} relax {n}"].calcs_reversed[0].output.ionic_steps)
                for n in (1, 2)
            ),
            volume_change=volume_change(structure, static.structure),
            pre_relaxation_steps=pre_relaxation and n_relaxation_steps(pre_relaxation),
            magnetic_orders=(*(order for _, order, _ in orders), *failed),
            folder=static.dir_name,
        )


def _order(start: str, static: TaskDoc) -> MagneticOrderResult:
    """Describe the state that a magnetic start ended in."""
    order, total = magnetic_state(static)
    edges = stored_band_edges(static)
    return MagneticOrderResult(
        start=start,
        order=order,
        energy_per_atom=static.output.energy_per_atom,
        total_magnetization=total,
        pbe_gap=edges and edges.gap,
        nsites=len(static.structure),
    )
