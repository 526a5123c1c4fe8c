"""One composition: sample, prescreen in batches, select, evaluate the survivors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, OutputReference
from pymatgen.core import Composition

from flows.candidate import CandidateMaker
from flows.prescreen import PrescreenMaker, SelectMaker
from flows.sample import SampleMaker
from gan_htvs.campaign.model import structures_in_round
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.hull import ReferenceSet

if TYPE_CHECKING:
    from jobflow import Job

    from gan_htvs.core.candidate import Screened


@dataclass
class CompositionMaker(Maker):
    """Search one composition.

    Parameters
    ----------
    name
        Name of the flow, before the composition.
    n_structures
        Structures to sample from each proposer.
    n_rounds
        Rounds of sampling, over which the structures of the generator are divided; the other
        proposers sample in the first round.
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
    n_rounds: int = 1
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
        number: int = 1,
        earlier: Screened | OutputReference | None = None,
    ) -> Flow:
        """Make the jobs of one round up to the selection, a static graph.

        Parameters
        ----------
        composition
            Cell formula, not reduced.
        checkpoint
            Output of a :class:`~flows.train.TrainMaker`; None: the generator of the package.
        references, confirming_references
            Reference phases at the levels of theory of the potentials of the prescreen.
        number
            Number of the round, from 1.
        earlier
            Selection of the previous round, to which that of this round adds.

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
            n_structures = self.n_in_round(maker, number)
            if not n_structures:
                continue
            generated = checkpoint if maker.needs_checkpoint else None
            in_round = replace(maker, round_number=number)
            sample_job = in_round.make(composition, n_structures, generated)
            jobs.append(sample_job)
            batches += [
                sample_job.output.batches[position]
                for position in range(maker.n_batches(n_structures))
            ]
        if self.prescreen_maker is not None:
            screen_jobs = [
                self.prescreen_maker.make(batch, references, confirming_references)
                for batch in batches
            ]
            jobs += screen_jobs
            batches = [screen_job.output.proposals for screen_job in screen_jobs]
        if earlier is not None:
            batches.insert(0, earlier.proposals)
        select_job = self.select_maker.make(batches)
        name = f"{self.name} {composition}" + (f", round {number}" if self.n_rounds > 1 else "")
        return Flow([*jobs, select_job], output=select_job.output, name=name)

    def n_in_round(self, maker: SampleMaker, number: int) -> int:
        """Return the number of structures that a proposer samples in a round, from 1."""
        if not maker.needs_checkpoint:
            return self.n_structures if number == 1 else 0
        return structures_in_round(self.n_structures, self.n_rounds, number)

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
            As for :meth:`screen`; there is only one round.
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
