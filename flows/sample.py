"""Sample structures of one composition from one proposer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jobflow import Job, Maker, OutputReference, job
from pydantic import Field
from pymatgen.core import Composition

from flows.proposals import make_proposal
from flows.routing import Worker, mark
from gan_htvs.campaign.model import SHIPPED_GENERATOR
from gan_htvs.core.candidate import Proposal
from gan_htvs.core.chemical_system import ChemicalSystem, range_pairs
from gan_htvs.core.document import Document
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import ProposerName, Step
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.generator.checkpoint import load, load_output
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.single_points import single_point_energies
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.proposers.sampling import BestOf, sample
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.matching import StructureIndex

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from gan_htvs.generator.checkpoint import TrainedGenerator


class Sample(Document):
    """Structures of one composition from one proposer."""

    composition: str = Field(description="cell formula")
    proposer: ProposerName
    stream: str = Field(
        description="content hash of what determines the sequence of structures; it does not "
        "depend on their number"
    )
    proposals: list[Proposal] = Field(description="in the order in which they were sampled")
    batch_size: int = Field(description="structures in each of ``batches``")
    skipped: str | None = Field(None, description="why nothing was sampled, in a later round")
    requested: int
    tried: int = Field(description="raw samples, including rejected ones")
    acceptance: float
    rejections: dict[str, int] = Field(description="rejected raw samples by reason")
    exhausted: bool = Field(description="whether the proposer had no more structures")

    @property
    def batches(self) -> list[list[Proposal]]:
        """The proposals in batches; the last ones are empty if fewer were found than requested."""
        size = self.batch_size
        return [self.proposals[start : start + size] for start in range(0, self.requested, size)]


@dataclass
class SampleMaker(Maker):
    """Sample valid, unique structures without overlaps of one composition.

    Parameters
    ----------
    name
        Name of the job, before the composition.
    proposer
        Source of the structures.
    system
        Elements and caps; None: as in the generator.
    oxidation_states
        Lowest and highest average oxidation state by element; the proposer 'substitution' needs it.
    seed
        Seed of the random numbers of the first round; later rounds have the following numbers.
    batch_size
        Structures in each batch of the output.
    max_tries_per_structure
        Limit on raw samples per requested structure; the job then ends with fewer structures.
    campaign
        Name of the campaign, which is part of the ids of the structures.
    round_number
        Number of the round of sampling, from 1.
    geometry
        Limits for the structures.
    best_of
        Structures that are sampled for each one that is kept, the one of lowest energy before
        relaxation; 1: all are kept.
    potential
        Potential of these energies.
    skip_known
        Whether structures that match one of the training set are dropped.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> sampling = SampleMaker().make("MgMn2O4", 2)
    >>> outputs = run_locally(sampling, log=False)
    >>> [p.structure.formula for p in outputs[sampling.uuid][1].output.proposals]
    ['Mg1 Mn2 O4', 'Mg1 Mn2 O4']
    """

    name: str = "sample"
    proposer: ProposerName = ProposerName.GAN
    system: ChemicalSystem | None = None
    oxidation_states: dict[str, tuple[float, float]] | None = None
    seed: int = 0
    batch_size: int = 100
    max_tries_per_structure: int = 200
    campaign: str = ""
    round_number: int = 1
    geometry: GeometryLimits = field(default_factory=GeometryLimits)
    best_of: int = 1
    potential: PotentialSettings = field(default_factory=PotentialSettings)
    skip_known: bool = False

    def __post_init__(self) -> None:
        """Restore types that a database does not store."""
        self.proposer = ProposerName(self.proposer)
        if self.oxidation_states is not None:
            self.oxidation_states = range_pairs(self.oxidation_states)

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the proposer samples from a trained generator."""
        return self.proposer is ProposerName.GAN

    def n_batches(self, n_structures: int) -> int:
        """Return the number of batches that ``n_structures`` are divided into."""
        return -(-n_structures // self.batch_size)

    def make(
        self,
        composition: str,
        n_structures: int,
        checkpoint: dict[str, Any] | OutputReference | None = None,
    ) -> Job:
        """Make the job of one composition.

        Parameters
        ----------
        composition
            Cell formula, not reduced.
        n_structures
            Structures to sample; a larger number begins with the same structures.
        checkpoint
            Output of a :class:`~flows.train.TrainMaker`; None: the generator of the package.

        Returns
        -------
        A job whose output is a :class:`Sample`.

        Raises
        ------
        UserError
            If no chemical system is given for a proposer that needs one, the composition does not
            fit it, or ``n_structures`` or ``batch_size`` is less than 1.
        """
        for name, number in (("n_structures", n_structures), ("batch_size", self.batch_size)):
            if number < 1:
                raise UserError(f"{name} ({number}) must be 1 or more.")
        try:
            Composition(composition, strict=True)
            if self.system is not None:
                self.system.counts(composition)
        except ValueError as error:
            raise UserError(f"composition {composition!r} is impossible: {error}.") from error
        if not self.needs_checkpoint and self.system is None:
            raise UserError(
                f"SampleMaker: the proposer {self.proposer.value!r} needs a system; give one."
            )
        worker: Worker = "potential" if self.best_of > 1 else "other"
        if self.needs_checkpoint:
            worker = "generate"
        sample_job = self.sample(composition, n_structures, checkpoint)
        return mark(sample_job, Step.PROPOSE, worker, f"{self.name} {composition} {self.proposer}")

    @job
    def sample(
        self, composition: str, n_structures: int, checkpoint: dict[str, Any] | None
    ) -> Sample:
        """Propose structures, remove overlaps, check them, and remove duplicates."""
        if checkpoint is not None and checkpoint.get("stopped") is not None:
            return self._nothing(composition, n_structures, checkpoint["stopped"])
        trained = self._generator(checkpoint)
        system = self.system if trained is None else trained.system
        if system is None:
            raise UserError("SampleMaker.system is missing; give a ChemicalSystem.")
        counts = system.counts(composition)
        # With equal noise, similar generators would propose similar structures.
        seed = self.seed + self.round_number - 1
        sampled = sample(
            make_proposer(
                self.proposer, system, self.oxidation_states or {}, trained, self.geometry
            ),
            counts,
            n_structures,
            seed=seed,
            max_tries_per_structure=self.max_tries_per_structure,
            best_of=self._best_of,
            known=StructureIndex(self.known(checkpoint, composition)),
        )
        stream = content_hash(
            "sample",
            self.campaign,
            self.proposer,
            trained.content_sha256 if trained else [system, self.oxidation_states],
            system.formula(counts),
            seed,
            *([] if self.geometry == CHEMISTRY else [self.geometry]),
            *([] if self.best_of == 1 else [self.best_of, self.potential.level_of_theory]),
            *(["skip known"] if self.skip_known else []),
        )
        proposals = [
            make_proposal(
                accepted.structure,
                *(stream, accepted.index),
                proposer=self.proposer,
                requested_composition=composition,
                index=accepted.index,
                round=self.round_number,
                stream=stream,
                checkpoint=trained and trained.file_sha256,
                seed=seed,
                max_displacement=accepted.max_displacement,
                is_remade=accepted.is_remade,
            )
            for accepted in sampled.samples
        ]
        return Sample(
            composition=composition,
            proposer=self.proposer,
            stream=stream,
            proposals=proposals,
            batch_size=self.batch_size,
            requested=n_structures,
            tried=sampled.tried,
            acceptance=sampled.acceptance,
            rejections={reason.value: n for reason, n in sampled.reasons.most_common()},
            exhausted=sampled.exhausted,
        )

    def _nothing(self, composition: str, n_structures: int, reason: str) -> Sample:
        """Return the sample of a round that is not needed."""
        return Sample(
            composition=composition,
            proposer=self.proposer,
            stream=content_hash("no sample", self.campaign, composition, self.round_number),
            proposals=[],
            batch_size=self.batch_size,
            skipped=reason,
            requested=n_structures,
            tried=0,
            acceptance=0.0,
            rejections={},
            exhausted=False,
        )

    @property
    def _best_of(self) -> BestOf | None:
        if self.best_of == 1:
            return None
        return BestOf(self.best_of, partial(single_point_energies, potential=self.potential))

    def known(self, checkpoint: dict[str, Any] | None, composition: str) -> list[Structure]:
        """Return the training structures that are skipped, in cells of any size."""
        if not self.skip_known or checkpoint is None or checkpoint["training_set"] is None:
            return []
        formula = Composition(composition).reduced_formula
        training = Dataset.from_document(checkpoint["training_set"]).structures()
        return [known for known in training if known.composition.reduced_formula == formula]

    def _generator(self, checkpoint: dict[str, Any] | None) -> TrainedGenerator | None:
        if not self.needs_checkpoint:
            return None
        if checkpoint is None:
            return load(SHIPPED_GENERATOR, system=self.system)
        return load_output(checkpoint, system=self.system)
