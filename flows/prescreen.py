"""Prescreen a batch of structures with interatomic potentials, and select across batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from jobflow import Job, Maker, OutputReference, job

from flows.energy import check_references
from flows.proposals import as_proposals
from flows.routing import mark
from flows.scratch import scratch_file
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.processes import available_cores
from gan_htvs.core.stages import Step
from gan_htvs.potentials.relaxation import RelaxationCache
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.prescreen.prescreen_settings import CONFIRMATION_STEPS, Device
from gan_htvs.prescreen.screening import Prescreen, select
from gan_htvs.structures.geometry_limits import GeometryLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from gan_htvs.core.candidate import Proposal, Screened
    from gan_htvs.thermodynamics.hull import ReferenceSet


@dataclass
class PrescreenMaker(Maker):
    """Relax a batch of structures with a potential and reject those high above the hull.

    Parameters
    ----------
    name
        Name of the job.
    potential
        Potential of the relaxations.
    confirm
        Second, independent potential, which must agree; None: no confirmation.
    window, disagreement, symmetry_tolerance, recall, audit, device
        See :class:`gan_htvs.prescreen.prescreen_settings.PrescreenSettings`; energies in eV/atom.
    geometry
        Limits for the structures.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`, eV/atom.

    Examples
    --------
    >>> from jobflow import Flow, run_locally
    >>> from pymatgen.core import Lattice, Structure
    >>> from flows.references import ReferencesMaker
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... ).get_primitive_structure()
    >>> references = ReferencesMaker().make(["Mg", "O"])
    >>> prescreen = PrescreenMaker(confirm=None).make([magnesia], references.output)
    >>> outputs = run_locally(Flow([references, prescreen]), log=False)
    >>> outputs[prescreen.uuid][1].output.proposals[0].survives
    True
    """

    name: str = "prescreen"
    potential: PotentialSettings = field(
        default_factory=lambda: PotentialSettings(name="chgnet", max_steps=200)
    )
    confirm: PotentialSettings | None = field(
        default_factory=lambda: PotentialSettings(name="sevennet-0", max_steps=CONFIRMATION_STEPS)
    )
    window: float = 0.2
    disagreement: float = 0.1
    symmetry_tolerance: float = 0.1
    recall: float = 0.94
    audit: float = 0.1
    device: Device = "auto"
    geometry: GeometryLimits = field(default_factory=GeometryLimits)
    lowest_decomposition_energy: float | None = None

    def make(
        self,
        structures: Sequence[Proposal | Structure] | OutputReference,
        references: ReferenceSet | OutputReference,
        confirming_references: ReferenceSet | OutputReference | None = None,
    ) -> Job:
        """Make the job of one batch, about a hundred structures.

        Parameters
        ----------
        structures
            Structures, or proposals with their provenance.
        references, confirming_references
            Reference phases at the levels of theory of the two potentials; the second set is
            required with ``confirm``.

        Returns
        -------
        A job whose output is a :class:`~gan_htvs.core.candidate.Screened`.

        Raises
        ------
        UserError
            If there are no structures, one cannot be computed, or references are missing, of
            another level of theory or without an element of the structures.
        """
        compositions = []
        if not isinstance(structures, OutputReference):
            structures = as_proposals(structures)
            compositions = [proposal.structure.composition for proposal in structures]
        if (self.confirm is None) != (confirming_references is None):
            raise UserError(
                "prescreen: confirm and confirming_references belong together; give both, or none."
            )
        check_references(references, self.potential.level_of_theory, compositions)
        if self.confirm is not None:
            check_references(confirming_references, self.confirm.level_of_theory, compositions)
        screen_job = self.screen(structures, references, confirming_references)
        return mark(screen_job, Step.PRESCREEN, "potential", self.name)

    @job
    def screen(
        self,
        proposals: list[Proposal],
        references: ReferenceSet,
        confirming_references: ReferenceSet | None = None,
    ) -> Screened:
        """Prescreen on the cores of the worker; an interrupted job resumes."""
        rules = Prescreen(
            relaxing=self.potential,
            confirming=self.confirm,
            references=references,
            confirming_references=confirming_references,
            window=self.window,
            disagreement=self.disagreement,
            symmetry_tolerance=self.symmetry_tolerance,
            audit=self.audit,
            device=self.device,
            recall=self.recall,
            geometry=self.geometry,
            lowest_decomposition_energy=self.lowest_decomposition_energy,
        )
        structures = [proposal.structure for proposal in proposals]
        name = content_hash("batch", self.potential, self.confirm, *structures)
        cache = RelaxationCache(scratch_file(f"relaxations-{name}.jsonl"))
        return rules.run(proposals, cache, n_processes=available_cores())


@dataclass
class SelectMaker(Maker):
    """Merge the survivors of several batches, without duplicates, most stable first.

    Examples
    --------
    >>> SelectMaker().make([]).name
    'select'
    """

    name: str = "select"

    def make(self, batches: list[OutputReference] | list[list[Proposal]]) -> Job:
        """Make the job.

        Parameters
        ----------
        batches
            The ``proposals`` of the outputs of a :class:`PrescreenMaker`, or of a
            :class:`~flows.sample.SampleMaker` without a prescreen.

        Returns
        -------
        A job whose output is a :class:`~gan_htvs.core.candidate.Screened`.
        """
        return mark(self.select(batches), Step.SELECT, "other", self.name)

    @job
    def select(self, batches: list[list[Proposal]]) -> Screened:
        """Remove duplicates across batches and rank the survivors."""
        return select(chain.from_iterable(batches))
