"""Energies from VASP, through atomate2's Makers.

Each initial magnetic ordering is relaxed and gets a static calculation; the ordering of lowest
energy is the result. The default inputs are those of pymatgen's ``MPRelaxSet`` and
``MPStaticSet`` (PBE, +U in oxides), which the MP2020 corrections and comparisons with the Materials
Project require; atomate2's own defaults are PBEsol.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from atomate2.vasp.flows.mp import MPGGADoubleRelaxMaker
from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.jobs.mp import MPGGAStaticMaker
from emmet.core.tasks import TaskDoc
from jobflow import Flow, Maker, job

from flows.energy import EnergyMaker, PotentialEnergyMaker, check_structure
from flows.engines.vasp_outcome import magnetic_state, stored_band_edges
from flows.engines.vasp_step import VaspStepMaker, customized
from flows.naming import formula_of
from flows.routing import TOLERANT, mark
from gan_htvs.core.band_gap import MagneticOrderingResult, sort_by_energy
from gan_htvs.core.candidate import RelaxedStructure, volume_change
from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.core.stages import Step
from gan_htvs.magnetism.initial_moments import enumerated_starts, magnetic_starts
from gan_htvs.potentials.corrections import energy_correction, level_of_theory
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobflow import Job
    from pymatgen.core import Structure

    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.core.failure import CalculationFailure

NO_RESTART_FILES: dict[str, Any] = {"additional_vasp_files": ()}
"""Copy no files of the previous calculation. atomate2's Makers copy WAVECAR, which the Materials
Project's LWAVE = F does not write, and CHGCAR, which VASP does not read without ICHARG."""

PARSE_NO_BANDS = {"parse_dos": False, "parse_bandstructure": False}
"""Store no densities of states and bands: they are megabytes per candidate, and atomate2 needs
VASP's Fermi level to parse them. They remain in vasprun.xml."""


@dataclass
class VaspEnergyMaker(EnergyMaker):
    """Relax with VASP and compute a static energy for each initial magnetic ordering.

    Parameters
    ----------
    name
        Name of the flow, before the formula.
    relax_maker
        A relaxation of atomate2: a single one, or two in a row such as ``MPGGADoubleRelaxMaker``.
    static_maker
        A static calculation of atomate2, which gives the energy.
    pre_relax_maker
        Relaxes each magnetic ordering with a potential first; None: no pre-relaxation.
    step_maker
        Runs each calculation; its ``vasp`` and ``name`` are replaced.
    orderings
        Source of antiferromagnetic orderings: superexchange couplings or enumlib.
    max_afm
        Number of antiferromagnetic orderings, besides the ferromagnetic one.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> maker = VaspEnergyMaker()
    >>> maker.level_of_theory
    'PBE(+U)+MP2020'
    >>> [job.name for job in maker.make(magnesia).jobs]
    ['NM relax 1 MgO', 'NM relax 2 MgO', 'NM static MgO', 'energy MgO']
    """

    name: str = "energy"
    relax_maker: Maker = field(default_factory=MPGGADoubleRelaxMaker)
    static_maker: BaseVaspMaker = field(default_factory=MPGGAStaticMaker)
    pre_relax_maker: PotentialEnergyMaker | None = None
    step_maker: VaspStepMaker = field(default_factory=VaspStepMaker)
    orderings: Literal["couplings", "enumlib"] = "couplings"
    max_afm: int = 1

    @classmethod
    def of(cls, engines: EngineSettings, geometry: GeometryLimits = CHEMISTRY) -> VaspEnergyMaker:
        """Return the Maker for the settings of a campaign.

        ``geometry`` are the limits for generated structures.

        Raises
        ------
        UserError
            If a powerup does not accept its arguments, or changes the level of theory.
        """
        vasp = engines.vasp
        double, static = MPGGADoubleRelaxMaker(), MPGGAStaticMaker()
        relax_makers = {
            name: customized(getattr(double, name), vasp, vasp.incar)
            for name in ("relax_maker1", "relax_maker2")
        }
        pre_relax_maker = None
        if vasp.pre_relaxation is not None:
            pre_relax_maker = PotentialEnergyMaker(
                name="pre-relax", potential=engines.potential, geometry=geometry
            )
        return cls(
            relax_maker=replace(double, **relax_makers),
            static_maker=customized(static, vasp, vasp.incar),
            pre_relax_maker=pre_relax_maker,
            step_maker=replace(VaspStepMaker.of(vasp), geometry=geometry),
            orderings=vasp.orderings,
            max_afm=vasp.max_afm,
        )

    @property
    def level_of_theory(self) -> str:
        """Label of the energies, with the differences from the Materials Project's calculations.

        Raises
        ------
        UserError
            If no MP2020 corrections and no energy of O2 exist for the functional.
        """
        if (functional := _functional(self.static_maker)) is not None:
            raise UserError(
                f"VaspEnergyMaker.static_maker: energies of {functional} have no MP2020 "
                "corrections and no energy of O2; keep MPGGAStaticMaker and change relax_maker."
            )
        label = level_of_theory("vasp").label
        if (geometry := _functional(self._relaxations[-1])) is not None:
            label += f"//{geometry}"
        potcars = self.static_maker.input_set_generator.user_potcar_functional
        return label if potcars in (None, "PBE") else f"{label} ({potcars})"

    @property
    def _relaxations(self) -> list[BaseVaspMaker]:
        """Relaxations in the order in which they run."""
        maker = self.relax_maker
        parts = [getattr(maker, name, None) for name in ("relax_maker1", "relax_maker2")]
        makers = [part for part in (maker, *parts) if isinstance(part, BaseVaspMaker)]
        if not makers:
            raise UserError(
                f"VaspEnergyMaker.relax_maker: {type(maker).__name__} is not a relaxation of "
                "atomate2; give a BaseVaspMaker, or a DoubleRelaxMaker."
            )
        return makers

    def make(self, structure: Structure) -> Flow:
        """Make the flow of one structure; see :meth:`EnergyMaker.make`.

        The structure of each magnetic ordering has moments and often a larger cell.
        """
        check_structure(structure)
        formula = formula_of(structure)
        jobs: list[Job] = []
        outputs: dict[str, Any] = {}
        for name, start in self._starts(structure).items():
            steps = self._steps(name, start, formula)
            jobs += steps
            outputs[name] = [step.output for step in steps]
        choose_job = self.choose(structure, outputs)
        mark(choose_job, Step.ENERGY, "other", f"{self.name} {formula}")
        return Flow([*jobs, choose_job], output=choose_job.output, name=choose_job.name)

    def make_references(self, structures: Mapping[str, Structure]) -> Flow:
        """Make the flows of reference phases; see :meth:`EnergyMaker.make_references`."""
        maker = replace(self, step_maker=replace(self.step_maker, is_reference=True))
        return EnergyMaker.make_references(maker, structures)

    def _starts(self, structure: Structure) -> dict[str, Structure]:
        if self.orderings == "enumlib":
            with suppress(
                CalculationError
            ):  # too many magnetic sites: only the ferromagnetic ordering
                return enumerated_starts(structure, max_afm=self.max_afm)
            return magnetic_starts(structure, max_afm=0)
        return magnetic_starts(structure, max_afm=self.max_afm)

    def _steps(self, name: str, start: Structure, formula: str) -> list[Job]:
        """Make the jobs of one magnetic ordering: potential, relaxations, static calculation."""
        jobs: list[Job] = []
        previous: Any = start
        if self.pre_relax_maker is not None:
            pre_relax_job = self.pre_relax_maker.make(start)
            pre_relax_job.name = f"{name} {self.pre_relax_maker.name} {formula}"
            jobs.append(pre_relax_job)
            previous = pre_relax_job.output
        moments = start.site_properties["magmom"]
        # MPRelaxSet sets parallel moments, including small ones on the other elements.
        magmoms: list[float] | None = list(moments) if min(moments) < 0 else []
        names = ["relax 1", "relax 2"] if len(self._relaxations) > 1 else ["relax"]
        makers = dict(zip(names, self._relaxations, strict=True)) | {"static": self.static_maker}
        for step, maker in makers.items():
            vasp = replace(
                maker,
                name=f"{name} {step}",
                task_document_kwargs=PARSE_NO_BANDS,
                copy_vasp_kwargs=NO_RESTART_FILES,
            )
            step_job = replace(self.step_maker, name=vasp.name, vasp=vasp).make(previous, magmoms)
            kind = Step.STATIC if step == "static" else Step.RELAX
            jobs.append(mark(step_job, kind, "dft", f"{vasp.name} {formula}"))
            previous, magmoms = step_job.output, None
        return jobs

    @job(config=TOLERANT)
    def choose(
        self, structure: Structure, outputs: dict[str, list[Any]]
    ) -> RelaxedStructure | CalculationFailure:
        """Choose the magnetic ordering of lowest energy.

        Parameters
        ----------
        structure
            Structure before all relaxations.
        outputs
            Outputs of the calculations of each magnetic ordering, the static one last.

        Returns
        -------
        The ordering of lowest energy; the failure of the first ordering if none has an energy.
        """
        last = {start: results[-1] for start, results in outputs.items()}
        orders = sort_by_energy(_order(start, result) for start, result in last.items())
        static = last[orders[0].start]
        if not isinstance(static, TaskDoc):
            failures = [result for result in last.values() if result is not None]
            if failures:
                return failures[0]
            raise CalculationError(orders[0].reason or "no magnetic ordering")
        energy = static.output.energy_per_atom
        correction = energy_correction(static.structure, energy, "vasp")
        steps = outputs[orders[0].start][:-1]
        tasks = [step for step in steps if isinstance(step, TaskDoc)]
        pre_relaxed = [step for step in steps if isinstance(step, RelaxedStructure)]
        return RelaxedStructure(
            structure=static.structure,
            energy_per_atom=energy + correction,
            correction_per_atom=correction,
            level_of_theory=self.level_of_theory,
            converged=True,
            magmoms=static.structure.site_properties.get("magmom"),
            n_steps=sum(len(task.calcs_reversed[0].output.ionic_steps) for task in tasks),
            volume_change=volume_change(structure, static.structure),
            pre_relaxation_steps=pre_relaxed[0].n_steps if pre_relaxed else None,
            magnetic_orders=orders,
            folder=static.dir_name,
        )


def _functional(maker: BaseVaspMaker) -> str | None:
    """Return the functional of a Maker; None for PBE, with +U in oxides."""
    generator = maker.input_set_generator
    incar = {**generator.config_dict.get("INCAR", {}), **generator.user_incar_settings}
    tags = {tag.upper(): value for tag, value in incar.items()}
    if metagga := tags.get("METAGGA"):
        return {"R2SCAN": "r2SCAN"}.get(str(metagga).upper(), str(metagga))
    if tags.get("LHFCALC"):
        return "hybrid"
    gga = str(tags.get("GGA") or "PE").upper()
    return None if gga == "PE" else {"PS": "PBEsol"}.get(gga, gga)


def _order(start: str, static: TaskDoc | CalculationFailure | None) -> MagneticOrderingResult:
    """Return the final state of a magnetic start, or the reason of its failure."""
    if not isinstance(static, TaskDoc):
        reason = static.message if static else "the calculation has no output"
        is_retryable = static is None or static.is_retryable
        return MagneticOrderingResult(start=start, reason=reason, is_retryable=is_retryable)
    order, total = magnetic_state(static)
    edges = stored_band_edges(static)
    return MagneticOrderingResult(
        start=start,
        order=order,
        energy_per_atom=static.output.energy_per_atom,
        total_magnetization=total,
        pbe_gap=edges and edges.gap,
        nsites=len(static.structure),
    )
