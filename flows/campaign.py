"""A whole campaign: reference phases, training, and one flow for each composition."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, Maker

from flows.band_gap import GpawBandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.composition import CompositionMaker
from flows.energy import PotentialEnergyMaker
from flows.engines.atomate2_settings import load_settings
from flows.naming import name_by_content
from flows.prescreen import PrescreenMaker, level_of_potential
from flows.references import ReferencesMaker
from flows.routing import label, route
from flows.sample import SampleMaker
from flows.train import TrainMaker
from gan_htvs.engines import PotentialSettings
from gan_htvs.errors import UserError
from gan_htvs.proposers import ProposerName
from gan_htvs.thermodynamics.references import phases_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import OutputReference

    from flows.band_gap import BandGapMaker
    from flows.energy import EnergyMaker
    from gan_htvs.bandgap import BandGapResult
    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import RelaxedStructure
    from gan_htvs.engines import EngineSettings
    from gan_htvs.prescreen.documents import Survivor
    from gan_htvs.thermodynamics.references import ReferencePhase


def energy_maker_of(engines: EngineSettings) -> EnergyMaker:
    """Make the Maker of energies that a campaign names.

    Raises
    ------
    UserError
        If it is VASP and atomate2 cannot read its settings.
    """
    if engines.energy.name == "vasp":
        load_settings()  # without them, the next line fails
        from flows.engines.vasp import VaspEnergyMaker  # noqa: PLC0415

        return VaspEnergyMaker.of(engines)
    return PotentialEnergyMaker(potential=engines.potential)


def band_gap_maker_of(engines: EngineSettings) -> BandGapMaker | None:
    """Make the Maker of band gaps that a campaign names; None if gaps are switched off.

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


@dataclass
class CampaignMaker(Maker):
    """Search all compositions of a campaign, in one flow.

    For campaigns of up to a few hundred structures, run by ``run_locally`` or jobflow-remote.
    ``gan-htvs submit`` divides larger ones into small workflows.

    Parameters
    ----------
    name
        Name of the flow.
    train_maker
        Trains the generator; None: no proposer needs one.
    references_maker
        Reference phases at the level of theory of the candidates.
    prescreen_references_maker, confirming_references_maker
        Reference phases at the levels of theory of the two potentials of the prescreen; None: that
        of the candidates, or there is no such potential.
    composition_maker
        Searches one composition.

    Examples
    --------
    >>> from gan_htvs.campaign import Campaign
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
    references_maker: ReferencesMaker = field(default_factory=ReferencesMaker)
    prescreen_references_maker: ReferencesMaker | None = None
    confirming_references_maker: ReferencesMaker | None = field(
        default_factory=lambda: _references_of(PotentialSettings(name="sevennet-0"))
    )
    composition_maker: CompositionMaker = field(default_factory=CompositionMaker)

    @classmethod
    def of(cls, campaign: Campaign) -> CampaignMaker:
        """Make the Maker that the settings of a campaign describe."""
        engines, sampling = campaign.engines, campaign.sampling
        energy_maker = energy_maker_of(engines)
        prescreen = campaign.prescreen
        prescreen_maker = prescreen_references = confirming_references = None
        if prescreen is not None:
            potential, confirm = prescreen.relaxing(engines), prescreen.confirming(engines)
            prescreen_maker = PrescreenMaker(
                potential=potential,
                confirm=confirm,
                window=prescreen.window or campaign.thresholds.metastable,
                disagreement=prescreen.disagreement,
                symmetry_tolerance=prescreen.symmetry_tolerance,
                recall=prescreen.recall,
                audit=prescreen.audit,
                device=prescreen.device,
            )
            prescreen_references = _own_references(potential, energy_maker)
            if confirm is not None:
                confirming_references = _own_references(confirm, energy_maker)
        stability_maker = StabilityMaker(
            band_gap_maker=band_gap_maker_of(engines),
            thresholds=campaign.thresholds,
            pourbaix=campaign.pourbaix,
        )
        sample_makers = [
            SampleMaker(
                proposer=proposer,
                system=campaign.chemical_system,
                oxidation_states=dict(campaign.oxidation_states),
                seed=sampling.seed,
                batch_size=sampling.batch_size,
                max_tries_per_structure=sampling.max_tries_per_structure,
                campaign=campaign.name,
            )
            for proposer in sampling.proposers
        ]
        return cls(
            name=campaign.name,
            train_maker=TrainMaker.of(campaign) if _needs_generator(campaign) else None,
            references_maker=ReferencesMaker(energy_maker=energy_maker),
            prescreen_references_maker=prescreen_references,
            confirming_references_maker=confirming_references,
            composition_maker=CompositionMaker(
                n_structures=sampling.structures_per_composition,
                sample_makers=sample_makers,
                prescreen_maker=prescreen_maker,
                candidate_maker=CandidateMaker(
                    energy_maker=energy_maker, stability_maker=stability_maker
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
        :class:`~gan_htvs.candidate.Verdict`.

        Raises
        ------
        UserError
            If reference phases are missing, or references and the structures that are compared
            with them are computed at different levels of theory.
        """
        self._check_levels()
        parts = CampaignFlows(campaign, self, is_queued=False)
        shared = [parts.references, parts.prescreen_references, parts.confirming_references]
        jobs: list[Job | Flow] = [flow for flow in shared if flow is not None]
        if parts.training is not None:
            jobs.append(parts.training)
        screening, confirming = parts.screening_references
        compositions = {
            composition: self.composition_maker.make(
                composition,
                parts.training and parts.training.output,
                references=parts.references.output,
                prescreen_references=screening,
                confirming_references=confirming,
            )
            for composition in parts.compositions
        }
        return Flow(
            [*jobs, *compositions.values()],
            output={composition: flow.output for composition, flow in compositions.items()},
            name=self.name,
        )

    def _check_levels(self) -> None:
        """Check that references have the level of theory of what they are compared with."""
        composition_maker = self.composition_maker
        prescreen_maker = composition_maker.prescreen_maker
        pairs = [
            (self.references_maker, composition_maker.candidate_maker.energy_maker.level_of_theory)
        ]
        if prescreen_maker is not None:
            screening = self.prescreen_references_maker or self.references_maker
            pairs.append((screening, level_of_potential(prescreen_maker.potential)))
            if prescreen_maker.confirm is not None:
                confirming = self.confirming_references_maker or self.references_maker
                pairs.append((confirming, level_of_potential(prescreen_maker.confirm)))
        for maker, level in pairs:
            if maker.energy_maker.level_of_theory != level:
                raise UserError(
                    f"CampaignMaker: references of {maker.energy_maker.level_of_theory} cannot be "
                    f"compared with energies of {level}; give both the same energy_maker."
                )


@dataclass
class CampaignFlows:
    """The parts of a campaign, which are queued one by one.

    The uuid of each job is a hash of its content. Jobs carry the name of their owner and the
    category of their worker. The owner of references and training is the uuid of their last job,
    because other campaigns may share them.

    Parameters
    ----------
    campaign
        The settings.
    maker
        Makes the parts; None: the Maker that the settings describe.
    is_queued
        Whether references and training get these uuids, owners and categories.
    """

    campaign: Campaign
    maker: CampaignMaker | None = None
    is_queued: bool = True

    @cached_property
    def _maker(self) -> CampaignMaker:
        maker = self.maker or CampaignMaker.of(self.campaign)
        if not self.is_queued:
            return maker
        routing = {"routing": self.campaign.routing}
        return maker.update_kwargs(routing, class_filter=StabilityMaker)

    @property
    def level_of_theory(self) -> str:
        """Label of the energies of the candidates."""
        return self._maker.references_maker.energy_maker.level_of_theory

    @property
    def compositions(self) -> list[str]:
        """Cell formulas of the compositions, in order."""
        system = self.campaign.chemical_system
        return [system.formula(counts) for counts in self.campaign.target_counts]

    @cached_property
    def references(self) -> Flow:
        """Reference phases at the level of theory of the candidates."""
        return self._references(self._maker.references_maker, phases_of(self.campaign))

    @property
    def relaxed_references(self) -> Any:
        """Reference to the relaxed reference phases, by name; {} if all energies are pinned."""
        relaxing = self.references.jobs[:-1]
        return relaxing[0].output if relaxing else {}

    @cached_property
    def prescreen_references(self) -> Flow | None:
        """Reference phases of the potential that prescreens, if its level of theory differs."""
        maker = self._maker.prescreen_references_maker
        return maker and self._references(maker, phases_of(self.campaign, by_potential=True))

    @cached_property
    def confirming_references(self) -> Flow | None:
        """Reference phases of the potential that confirms, if its level of theory differs."""
        maker = self._maker.confirming_references_maker
        return maker and self._references(maker, phases_of(self.campaign, by_potential=True))

    def _references(self, maker: ReferencesMaker, phases: Sequence[ReferencePhase]) -> Flow:
        flow = maker.make(phases)
        if not self.is_queued:
            return flow
        label(name_by_content(flow), flow.output.uuid)
        return route(flow, self.campaign.routing, first=True)

    @property
    def screening_references(self) -> tuple[OutputReference | None, OutputReference | None]:
        """Reference sets of the two potentials of the prescreen; None where one is not needed."""
        prescreen = self._maker.composition_maker.prescreen_maker
        if prescreen is None:
            return None, None
        screening = self.prescreen_references or self.references
        confirming = self.confirming_references or self.references
        return screening.output, confirming.output if prescreen.confirm else None

    @cached_property
    def training(self) -> Job | None:
        """The training of the generator, if a proposer needs one."""
        maker = self._maker.train_maker
        if maker is None:
            return None
        training = maker.make()
        if not self.is_queued:
            return training
        label(name_by_content(training), training.uuid)
        return route(training, self.campaign.routing)

    @property
    def shared(self) -> list[Job | Flow]:
        """The parts that other campaigns may share, in the order in which they are queued."""
        parts = (
            self.references,
            self.prescreen_references,
            self.confirming_references,
            self.training,
        )
        return [part for part in parts if part is not None]

    def screen(self, composition: str) -> Flow:
        """Make the jobs of one composition up to the selection."""
        screening, confirming = self.screening_references
        flow = self._maker.composition_maker.screen(
            composition,
            self.training and self.training.output,
            references=screening,
            confirming_references=confirming,
        )
        return self._own(flow)

    def candidates(self, survivors: Sequence[Survivor]) -> Flow:
        """Make the flows of some survivors."""
        maker = self._maker.composition_maker.candidate_maker
        flows = [maker.make(survivor, self.references.output) for survivor in survivors]
        return self._own(Flow(flows, name=f"{len(flows)} candidates"))

    def band_gap(
        self, relaxed: RelaxedStructure, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of one band gap; an incomplete ``previous`` is completed."""
        maker = self._maker.composition_maker.candidate_maker.stability_maker
        gap_jobs = maker.band_gap_jobs(relaxed, previous)
        return label(gap_jobs, self.campaign.name)

    def _own(self, flow: Flow) -> Flow:
        name_by_content(flow, self.campaign.name)
        return route(label(flow, self.campaign.name), self.campaign.routing)


def _own_references(
    potential: PotentialSettings, energy_maker: EnergyMaker
) -> ReferencesMaker | None:
    """Make the references Maker of a potential; None if its level is that of the candidates."""
    own = _references_of(potential)
    is_same = own.energy_maker.level_of_theory == energy_maker.level_of_theory
    return None if is_same else own


def _references_of(potential: PotentialSettings) -> ReferencesMaker:
    return ReferencesMaker(
        name=f"references {potential.name}", energy_maker=PotentialEnergyMaker(potential=potential)
    )


def _needs_generator(campaign: Campaign) -> bool:
    return ProposerName.GAN in campaign.sampling.proposers
