"""One composition: sample, prescreen in batches, select, evaluate the survivors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, OutputReference
from pymatgen.core import Composition

from flows.candidate import CandidateMaker
from flows.prescreen import PrescreenMaker, SelectMaker
from flows.sample import SampleMaker
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.hull import ReferenceSet

if TYPE_CHECKING:
    from jobflow import Job


@dataclass
class CompositionMaker(Maker):
    """Search one composition.

    Parameters
    ----------
    name
        Name of the flow, before the composition.
    n_structures
        Structures to sample from each proposer.
    sample_makers
        One for each proposer.
    prescreen_maker
        Screens the structures with interatomic potentials; None: all are evaluated.
    select_maker
        Selects among the structures of all batches.
    candidate_maker
        Evaluates the survivors.

    Examples
    --------
    >>> from flows.references import ReferencesMaker
    >>> references = ReferencesMaker().make(["Mg", "Mn", "O"])
    >>> maker = CompositionMaker(n_structures=250, prescreen_maker=PrescreenMaker(confirm=None))
    >>> flow = maker.make("MgMn2O4", references=references.output)
    >>> [job.name for job, _ in flow.iterflow()]
    ['sample MgMn2O4 gan', 'prescreen', 'prescreen', 'prescreen', 'select', 'evaluate']
    """

    name: str = "composition"
    n_structures: int = 300
    sample_makers: list[SampleMaker] = field(default_factory=lambda: [SampleMaker()])
    prescreen_maker: PrescreenMaker | None = field(default_factory=PrescreenMaker)
    select_maker: SelectMaker = field(default_factory=SelectMaker)
    candidate_maker: CandidateMaker = field(default_factory=CandidateMaker)

    def screen(
        self,
        composition: str,
        checkpoint: dict[str, Any] | OutputReference | None = None,
        *,
        references: ReferenceSet | OutputReference | None = None,
        confirming_references: ReferenceSet | OutputReference | None = None,
    ) -> Flow:
        """Make the jobs up to the selection, a static graph.

        Parameters
        ----------
        composition
            Cell formula, not reduced.
        checkpoint
            Output of a :class:`~flows.train.TrainMaker`; None: the generator of the package.
        references, confirming_references
            Reference phases at the levels of theory of the potentials of the prescreen.

        Returns
        -------
        A flow whose output is a :class:`~gan_htvs.core.candidate.Screened`.

        Raises
        ------
        UserError
            If there is nothing to sample from, or the prescreen has no references.
        """
        if not self.sample_makers:
            raise UserError("CompositionMaker: sample_makers is empty; give one or more.")
        if self.prescreen_maker is not None and references is None:
            raise UserError("CompositionMaker: the prescreen needs references; give them.")
        jobs: list[Job] = []
        batches: list[Any] = []
        for maker in self.sample_makers:
            generated = checkpoint if maker.needs_checkpoint else None
            sample_job = maker.make(composition, self.n_structures, generated)
            jobs.append(sample_job)
            batches += [
                sample_job.output.batches[number]
                for number in range(maker.n_batches(self.n_structures))
            ]
        if self.prescreen_maker is not None:
            screen_jobs = [
                self.prescreen_maker.make(batch, references, confirming_references)
                for batch in batches
            ]
            jobs += screen_jobs
            batches = [screen_job.output.proposals for screen_job in screen_jobs]
        select_job = self.select_maker.make(batches)
        name = f"{self.name} {composition}"
        return Flow([*jobs, select_job], output=select_job.output, name=name)

    def make(
        self,
        composition: str,
        checkpoint: dict[str, Any] | OutputReference | None = None,
        *,
        references: ReferenceSet | OutputReference,
        prescreen_references: ReferenceSet | OutputReference | None = None,
        confirming_references: ReferenceSet | OutputReference | None = None,
    ) -> Flow:
        """Make the flow of one composition.

        Parameters
        ----------
        composition, checkpoint, confirming_references
            As for :meth:`screen`.
        references
            Reference phases at the level of theory of the candidates.
        prescreen_references
            Reference phases of the potential that prescreens; None: ``references``.

        Returns
        -------
        A flow whose output is a list of :class:`~gan_htvs.core.candidate.Verdict`.

        Raises
        ------
        UserError
            If the references lack an element of the composition, or prescreen and candidates share
            references but not the level of theory.
        """
        if isinstance(references, ReferenceSet):
            references.fractions([Composition(composition)])
        level = self.candidate_maker.energy_maker.level_of_theory
        if self.prescreen_maker is not None and prescreen_references is None:
            own = self.prescreen_maker.potential.level_of_theory
            if own != level:
                raise UserError(
                    f"CompositionMaker: candidates have the level of theory {level}, the prescreen "
                    f"has {own}; give prescreen_references of {own}."
                )
        screen_flow = self.screen(
            composition,
            checkpoint,
            references=prescreen_references or references,
            confirming_references=confirming_references,
        )
        evaluate_job = self.candidate_maker.make_all(screen_flow.output, references)
        return Flow([screen_flow, evaluate_job], output=evaluate_job.output, name=screen_flow.name)
