"""A whole campaign: reference phases, training, and one flow for each composition."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from jobflow import Flow, Job, Maker

from flows.band_gap import GpawBandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.composition import CompositionMaker
from flows.energy import PotentialEnergyMaker
from flows.engines.atomate2_settings import load_settings
from flows.naming import name_by_content
from flows.prescreen import PrescreenMaker
from flows.references import ReferencesMaker
from flows.rounds import RoundMaker
from flows.routing import jobs_of, label, route
from flows.sample import SampleMaker
from flows.train import TrainMaker
from gan_htvs.core.stages import ProposerName, Step
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jobflow import OutputReference

    from flows.band_gap import BandGapMaker
    from flows.energy import EnergyMaker
    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.core.candidate import Proposal, RelaxedStructure, Verdict
    from gan_htvs.potentials.relaxation_settings import PotentialSettings
    from gan_htvs.structures.geometry_limits import GeometryLimits


def energy_maker_of(engines: EngineSettings, geometry: GeometryLimits) -> EnergyMaker:
    """Return the energy Maker of a campaign.

    ``geometry`` are the limits for generated structures.

    Raises
    ------
    UserError
        If it is VASP and atomate2 cannot read its settings.
    """
    if engines.energy.name == "vasp":
        load_settings()  # without them, the next line fails
        from flows.engines.vasp import VaspEnergyMaker  # noqa: PLC0415

        return VaspEnergyMaker.of(engines, geometry)
    return PotentialEnergyMaker(potential=engines.potential, geometry=geometry)


def band_gap_maker_of(engines: EngineSettings) -> BandGapMaker | None:
    """Return the band-gap Maker of a campaign; None if gaps are switched off.

    Raises
    ------
    UserError
        If it is VASP and atomate2 cannot read its settings.
    """
    if engines.band_gap.name == "none":
        return None
    if engines.band_gap.name == "vasp":
        load_settings()
        from flows.engines.hybrid import VaspBandGapMaker  # noqa: PLC0415

        return VaspBandGapMaker.of(engines)
    return GpawBandGapMaker(settings=engines.band_gap)


class Round(NamedTuple):
    """The flows of one round of sampling."""

    training: Flow | None
    """Training on what the earlier rounds found; None in the first round."""
    screens: dict[str, Flow]
    """Jobs up to the selection, by composition."""


@dataclass
class CampaignMaker(Maker):
    """Search all compositions of a campaign, in one flow.

    For campaigns of up to a few hundred structures, run by ``run_locally`` or jobflow-remote.
    ``gan-htvs submit`` divides larger ones into small workflows. The reference phases are computed
    once at each level of theory of the candidates and of the potentials of the prescreen.

    Parameters
    ----------
    name
        Name of the flow.
    train_maker
        Trains the generator; None: no proposer needs one.
    round_maker
        Trains it further after each round but the last.
    composition_maker
        Searches one composition.

    Examples
    --------
    >>> from gan_htvs.campaign.model import Campaign
    >>> campaign = Campaign(
    ...     name="demo",
    ...     chemical_system={"caps": {"Mg": 8, "Mn": 8, "O": 12}},
    ...     oxidation_states={"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
    ...     compositions=["MgMn2O4"],
    ...     sampling={"proposers": ["random"]},
    ... )
    >>> CampaignMaker.of(campaign).make(campaign).name
    'demo'
    """

    name: str = "campaign"
    train_maker: TrainMaker | None = field(default_factory=TrainMaker)
    round_maker: RoundMaker = field(default_factory=RoundMaker)
    composition_maker: CompositionMaker = field(default_factory=CompositionMaker)

    @classmethod
    def of(cls, campaign: Campaign) -> CampaignMaker:
        """Return the Maker for the settings of a campaign."""
        engines, sampling, prescreen = campaign.engines, campaign.sampling, campaign.prescreen
        needs_generator = ProposerName.GAN in sampling.proposers
        prescreen_maker = None
        if prescreen is not None:
            passed_on = {"disagreement", "symmetry_tolerance", "recall", "audit", "device"}
            prescreen_maker = PrescreenMaker(
                potential=prescreen.relaxing(engines),
                confirm=prescreen.confirming(engines),
                window=campaign.prescreen_window,
                geometry=campaign.geometry,
                lowest_decomposition_energy=campaign.lowest_decomposition_energy,
                **prescreen.model_dump(include=passed_on),
            )
        stability_maker = StabilityMaker(
            band_gap_maker=band_gap_maker_of(engines) if campaign.computes_gaps else None,
            funnel=campaign.funnel,
            lowest_decomposition_energy=campaign.lowest_decomposition_energy,
            pourbaix=campaign.aqueous_conditions,
            geometry=campaign.geometry,
            accept_incomplete=engines.band_gap.accept_incomplete,
        )
        # Without effect on the samples, and thus on the uuids of their jobs, if all are kept.
        best_of: dict[str, Any] = {}
        if sampling.best_of > 1:
            energies = prescreen.relaxing(engines) if prescreen else engines.potential
            best_of = {"best_of": sampling.best_of, "potential": energies}
        sample_makers = [
            SampleMaker(
                proposer=proposer,
                system=campaign.chemical_system,
                oxidation_states=dict(campaign.oxidation_states),
                seed=sampling.seed,
                batch_size=sampling.batch_size,
                max_tries_per_structure=sampling.max_tries_per_structure,
                campaign=campaign.name,
                geometry=campaign.geometry,
                **best_of,
                skip_known=sampling.skip_known,
            )
            for proposer in sampling.proposers
        ]
        generator = campaign.generator
        return cls(
            name=campaign.name,
            train_maker=TrainMaker.of(campaign) if needs_generator else None,
            round_maker=RoundMaker(
                train_maker=TrainMaker.of(campaign),
                steps=generator.round_steps,
                max_energy_above_hull=generator.round_max_energy_above_hull,
                max_structures=generator.round_max_structures,
            ),
            composition_maker=CompositionMaker(
                n_structures=sampling.structures_per_composition,
                n_rounds=generator.rounds,
                sample_makers=sample_makers,
                prescreen_maker=prescreen_maker,
                candidate_maker=CandidateMaker(
                    energy_maker=energy_maker_of(engines, campaign.geometry),
                    stability_maker=stability_maker,
                ),
            ),
        )

    def make(self, campaign: Campaign) -> Flow:
        """Make the flow of a campaign.

        Parameters
        ----------
        campaign
            Its compositions and reference phases.

        Returns
        -------
        A flow whose output is a mapping from compositions to lists of
        :class:`~gan_htvs.core.candidate.Verdict`.

        Raises
        ------
        UserError
            If reference phases are missing.
        """
        parts = self.shared_parts(campaign)
        work: list[Job | Flow] = [*parts.values()]
        screens: dict[str, Flow] = {}
        for training, screens in self.rounds(compositions_of(campaign), parts):
            work += [*([training] if training else []), *screens.values()]
        # The selection of the last round has the survivors of all rounds.
        candidate_maker, references = self.composition_maker.candidate_maker, parts["references"]
        evaluations = {
            composition: candidate_maker.make_all(flow.output, references.output)
            for composition, flow in screens.items()
        }
        return Flow(
            [*work, *evaluations.values()],
            output={composition: part.output for composition, part in evaluations.items()},
            name=self.name,
        )

    def rounds(
        self,
        compositions: Sequence[str],
        parts: Mapping[str, Job | Flow],
        finish: Callable[[Flow], Flow] = lambda flow: flow,
    ) -> Iterator[Round]:
        """Yield the flows of each round.

        Parameters
        ----------
        compositions
            Cell formulas.
        parts
            Parts that they share, see :meth:`shared_parts`.
        finish
            Called with each flow before the flows that depend on it are made.
        """
        checkpoint, references, confirming = self.screening_inputs(parts)
        screens: dict[str, Flow] = {}
        for number in range(1, self.composition_maker.n_rounds + 1):
            training = None
            if number > 1:
                prescreens = [
                    screen_job.output.proposals
                    for flow in screens.values()
                    for screen_job in jobs_of(flow)
                    if screen_job.metadata["step"] == Step.PRESCREEN
                ]
                train_job = self.round_maker.make(number, checkpoint, prescreens)
                training = finish(Flow([train_job], output=train_job.output, name=train_job.name))
                checkpoint = training.output
            screens = {
                composition: finish(
                    self.composition_maker.screen(
                        composition,
                        checkpoint,
                        references=references,
                        confirming_references=confirming,
                        number=number,
                        earlier=screens[composition].output if screens else None,
                    )
                )
                for composition in compositions
            }
            yield Round(training, screens)

    def shared_parts(self, campaign: Campaign) -> dict[str, Job | Flow]:
        """Make the parts that do not depend on a composition.

        Returns
        -------
        ``references`` at the level of theory of the candidates; ``prescreen_references`` and
        ``confirming_references``, if the levels of theory of the potentials differ from it;
        ``training``, if a proposer needs a generator.
        """
        energy_maker = self.composition_maker.candidate_maker.energy_maker
        makers = {"references": ReferencesMaker(energy_maker=energy_maker)}
        for name, potential in self._potentials.items():
            if potential and potential.level_of_theory != energy_maker.level_of_theory:
                makers[name] = ReferencesMaker(
                    name=f"references {potential.name}",
                    energy_maker=PotentialEnergyMaker(potential=potential),
                )
        parts: dict[str, Job | Flow] = {
            name: maker.make(phases_of(campaign, by_potential=name != "references"))
            for name, maker in makers.items()
        }
        if self.train_maker is not None:
            parts["training"] = self.train_maker.make()
        return parts

    def screening_inputs(self, parts: Mapping[str, Job | Flow]) -> list[OutputReference | None]:
        """Return the checkpoint and the reference sets of the two potentials of the prescreen.

        Inputs that are not needed are None.
        """
        outputs = {name: part.output for name, part in parts.items()}
        references = [
            potential and outputs.get(name, outputs["references"])
            for name, potential in self._potentials.items()
        ]
        return [outputs.get("training"), *references]

    @property
    def _potentials(self) -> dict[str, PotentialSettings | None]:
        """Potentials of the prescreen, by the part with their reference phases."""
        prescreen = self.composition_maker.prescreen_maker
        return {
            "prescreen_references": prescreen and prescreen.potential,
            "confirming_references": prescreen and prescreen.confirm,
        }


def compositions_of(campaign: Campaign) -> list[str]:
    """Return the cell formulas of the compositions of a campaign, in order."""
    return [campaign.chemical_system.formula(counts) for counts in campaign.target_counts]


@dataclass
class CampaignFlows:
    """Parts of a campaign, for separate workflows.

    The uuid of each job is a hash of its content. The metadata of each job name its owner, and its
    config the category of its worker. The owner of references and training is the uuid of their
    last job, because several campaigns may share them.
    """

    campaign: Campaign

    @cached_property
    def _maker(self) -> CampaignMaker:
        routing = {"routing": self.campaign.routing}
        return CampaignMaker.of(self.campaign).update_kwargs(routing, class_filter=StabilityMaker)

    @property
    def _candidate_maker(self) -> CandidateMaker:
        return self._maker.composition_maker.candidate_maker

    @property
    def level_of_theory(self) -> str:
        """Label of the energies of the candidates."""
        return self._candidate_maker.energy_maker.level_of_theory

    @cached_property
    def shared(self) -> dict[str, Job | Flow]:
        """The parts that other campaigns may share; see :meth:`CampaignMaker.shared_parts`."""
        parts = self._maker.shared_parts(self.campaign)
        for name, part in parts.items():
            label(name_by_content(part), part.output.uuid)
            route(part, self.campaign.routing, first=name != "training")
        return parts

    @property
    def relaxed_references(self) -> Any:
        """Reference to the relaxed reference phases, by name; {} if all energies are pinned."""
        relaxing = self.shared["references"].jobs[:-1]
        return relaxing[0].output if relaxing else {}

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds of sampling, with the jobs of each composition up to the selection."""
        compositions = compositions_of(self.campaign)
        return list(self._maker.rounds(compositions, self.shared, self._own))

    def candidates(self, survivors: Sequence[Proposal]) -> Flow:
        """Make one flow that evaluates the given survivors."""
        references = self.shared["references"].output
        flows = [self._candidate_maker.make(survivor, references) for survivor in survivors]
        return self._own(Flow(flows, name=f"{len(flows)} candidates"))

    def band_gap(
        self, relaxed: RelaxedStructure, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of one band gap; ``previous`` is an incomplete result to complete."""
        gap_jobs = self._candidate_maker.stability_maker.band_gap_jobs(relaxed, previous)
        return label(gap_jobs, self.campaign.name)

    def user_property(self, name: str, verdict: Verdict) -> Job | Flow:
        """Make the jobs of a user's property of a candidate."""
        jobs = self._candidate_maker.stability_maker.property_jobs(name, verdict)
        return label(jobs, self.campaign.name)

    def _own(self, flow: Flow) -> Flow:
        name_by_content(flow, self.campaign.name)
        return route(label(flow, self.campaign.name), self.campaign.routing)
