"""Makers that relax a structure and compute its energy."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, Maker, OutputReference, job
from pymatgen.core import Structure

from flows.naming import formula_of
from flows.routing import mark
from flows.scratch import scratch_file
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.processes import available_cores
from gan_htvs.core.stages import Step
from gan_htvs.potentials.relaxation import RelaxationCache, relax_many
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work, relax
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.structures.validity import check_cell
from gan_htvs.thermodynamics.hull import ReferenceSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymatgen.core import Composition

    from gan_htvs.core.candidate import RelaxationResult, RelaxedStructure

REFERENCES_PER_BATCH = 25
"""Largest number of reference phases that one job relaxes."""


@dataclass
class EnergyMaker(Maker):
    """Base of the Makers that relax a structure and compute its energy.

    Any object with the same methods and ``level_of_theory`` can replace a subclass.
    """

    name: str = "energy"

    @property
    def level_of_theory(self) -> str:
        """Label of the energies; energies of different labels are never compared."""
        raise NotImplementedError

    def make(self, structure: Structure) -> Job | Flow:
        """Make the jobs of one structure.

        Parameters
        ----------
        structure
            An ordered crystal.

        Returns
        -------
        A job or flow whose output is a :class:`~gan_htvs.core.candidate.RelaxedStructure`, or a
        :class:`~gan_htvs.core.failure.CalculationFailure` with the reason.
        """
        raise NotImplementedError

    def make_references(self, structures: Mapping[str, Structure]) -> Job | Flow:
        """Make the jobs of reference phases.

        Parameters
        ----------
        structures
            Crystals by name of the phase; limits for generated structures do not apply.

        Returns
        -------
        A job or flow whose output maps each name to an output as of :meth:`make`.
        """
        jobs = {name: self.make(structure) for name, structure in structures.items()}
        return Flow(
            list(jobs.values()),
            output={name: relax_job.output for name, relax_job in jobs.items()},
            name=f"{self.name} of reference phases",
        )


def failure_of_job(step: str, reason: str, **fields: Any) -> CalculationFailure:
    """Return the failure of a calculation in the running job, with its folder."""
    folder = f"{socket.gethostname()}:{Path.cwd()}"
    job_uuid = CURRENT_JOB.job.uuid
    return CalculationFailure(step=step, reason=reason, folder=folder, job=job_uuid, **fields)


def check_structure(structure: Structure) -> None:
    """Check that engines can compute a structure.

    Raises
    ------
    UserError
        If it is not a structure, is empty, has partly occupied sites, coordinates that are not
        finite, or an impossible cell.
    """
    if not isinstance(structure, Structure):
        raise UserError(
            f"structure: expected a pymatgen Structure, not {type(structure).__name__}; convert it."
        )
    if not len(structure):
        raise UserError("structure: it has no atoms; remove it.")
    if not structure.is_ordered:
        raise UserError(
            f"structure {structure.composition.reduced_formula}: it has partly occupied sites; "
            "order it first, for example with pymatgen's OrderDisorderedStructureTransformation."
        )
    if (reason := check_cell(structure)) is not None:
        raise UserError(
            f"structure {structure.composition.reduced_formula}: {reason}; correct its lattice and "
            "coordinates."
        )


def check_references(
    references: Any, level_of_theory: str, compositions: Iterable[Composition] = ()
) -> None:
    """Check that energies can be compared with a reference set.

    Parameters
    ----------
    references
        A reference set; a reference to the output of a job is not checked.
    level_of_theory
        Label of the energies.
    compositions
        Compositions whose elements the set must have.

    Raises
    ------
    UserError
        If it is neither, the set is of another level of theory, or lacks an element.
    """
    if isinstance(references, ReferenceSet):
        references.check_level(level_of_theory)
        references.fractions(compositions)
    elif not isinstance(references, OutputReference):
        raise UserError(
            f"references: expected a ReferenceSet or the output of a ReferencesMaker, not "
            f"{type(references).__name__}; give ReferencesMaker().make(elements).output."
        )


@dataclass
class PotentialEnergyMaker(EnergyMaker):
    """Relax with an interatomic potential.

    The prescreen and the training sets use the same function,
    :func:`gan_htvs.potentials.relaxer.relax`; so the energy of a structure is the same everywhere.

    Parameters
    ----------
    name
        Name of the jobs, before the formula.
    potential
        Potential, optimizer and convergence.
    geometry
        Limits for generated structures.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> from pymatgen.core import Lattice, Structure
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> relax = PotentialEnergyMaker().make(magnesia)
    >>> outputs = run_locally(relax, log=False)
    >>> round(outputs[relax.uuid][1].output.energy_per_atom, 2)
    -6.31
    """

    name: str = "relax"
    potential: PotentialSettings = field(default_factory=PotentialSettings)
    geometry: GeometryLimits = field(default_factory=GeometryLimits)

    @property
    def level_of_theory(self) -> str:
        """Label of the energies; energies of different labels are never compared."""
        return self.potential.level_of_theory

    def make(self, structure: Structure) -> Job:
        """Make the job of one structure; see :meth:`EnergyMaker.make`."""
        check_structure(structure)
        name = f"{self.name} {formula_of(structure)}"
        return mark(self.relax(structure), Step.RELAX, "potential", name)

    def make_references(self, structures: Mapping[str, Structure]) -> Job | Flow:
        """Make a job for each batch of phases, which uses the cores of its worker.

        Batches have up to :data:`REFERENCES_PER_BATCH` phases and about equally many atoms, so
        they take about the same time.
        """
        name = f"{self.name} reference phases"
        n_batches = ceil(len(structures) / REFERENCES_PER_BATCH)
        largest_first = sorted(structures, key=lambda phase: -len(structures[phase]))
        batches = [set(largest_first[number::n_batches]) for number in range(n_batches)]
        jobs: list[Job] = []
        output: dict[str, OutputReference] = {}
        for batch in batches:
            part = {phase: cell for phase, cell in structures.items() if phase in batch}
            jobs.append(mark(self.relax_references(part), Step.REFERENCES, "potential", name))
            output |= {phase: jobs[-1].output[phase] for phase in part}
        return jobs[0] if n_batches == 1 else Flow(jobs, output=output, name=name)

    @job
    def relax(self, structure: Structure) -> RelaxedStructure | CalculationFailure:
        """Relax one structure in this process."""
        return self._result(self.name, relax(structure, self.potential, geometry=self.geometry))

    @job
    def relax_references(
        self, structures: dict[str, Structure]
    ) -> dict[str, RelaxedStructure | CalculationFailure]:
        """Relax reference phases; a job that was interrupted resumes."""
        settings = self.potential.for_references
        work: dict[str, Work] = {
            name: Work(structure, settings, is_reference=True)
            for name, structure in structures.items()
        }
        cache = RelaxationCache(self.references_journal(structures))
        results = relax_many(work, cache, n_processes=available_cores())
        return {name: self._result(name, result) for name, result in results.items()}

    def references_journal(self, structures: Mapping[str, Structure]) -> Path | None:
        """Return the file to which :meth:`relax_references` adds a line for each phase, if any."""
        name = content_hash("references", self.potential.for_references, *structures.values())
        return scratch_file(f"relaxations-{name}.jsonl")

    def _result(self, step: str, result: RelaxationResult) -> RelaxedStructure | CalculationFailure:
        if result.relaxed is not None and result.relaxed.converged:
            return result.relaxed
        return failure_of_job(step, result.reason or "not converged")
