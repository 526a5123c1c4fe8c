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
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ProposerName
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.thermodynamics.references import phases_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobflow import OutputReference

    from flows.band_gap import BandGapMaker
    from flows.energy import EnergyMaker
    from gan_htvs.campaign.engines import EngineSettings
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.prescreen.documents import Survivor


def energy_maker_of(engines: EngineSettings) -> EnergyMaker:
    """Return the energy Maker of a campaign.

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
    references_maker: ReferencesMaker = field(default_factory=ReferencesMaker)
    prescreen_references_maker: ReferencesMaker | None = None
    confirming_references_maker: ReferencesMaker | None = field(
        default_factory=lambda: _references_of(PotentialSettings(name="sevennet-0"))
    )
    composition_maker: CompositionMaker = field(default_factory=CompositionMaker)

    @classmethod
    def of(cls, campaign: Campaign) -> CampaignMaker:
        """Return the Maker for the settings of a campaign."""
        engines, sampling = campaign.engines, campaign.sampling
        energy_maker = energy_maker_of(engines)
        needs_generator = ProposerName.GAN in sampling.proposers
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
            train_maker=TrainMaker.of(campaign) if needs_generator else None,
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
        :class:`~gan_htvs.core.candidate.Verdict`.

        Raises
        ------
        UserError
            If reference phases are missing, or references and the structures that are compared
            with them are computed at different levels of theory.
        """
        self._check_levels()
        parts = self.shared_parts(campaign)
        checkpoint, screening, confirming = self.screening_inputs(parts)
        compositions = {
            composition: self.composition_maker.make(
                composition,
                checkpoint,
                references=parts["references"].output,
                prescreen_references=screening,
                confirming_references=confirming,
            )
            for composition in compositions_of(campaign)
        }
        return Flow(
            [*parts.values(), *compositions.values()],
            output={composition: flow.output for composition, flow in compositions.items()},
            name=self.name,
        )

    def shared_parts(self, campaign: Campaign) -> dict[str, Job | Flow]:
        """Make the parts that do not depend on a composition.

        Returns
        -------
        ``references`` at the level of theory of the candidates; ``prescreen_references`` and
        ``confirming_references``, if the levels of theory of the potentials differ from it;
        ``training``, if a proposer needs a generator.
        """
        makers = {
            "references": self.references_maker,
            "prescreen_references": self.prescreen_references_maker,
            "confirming_references": self.confirming_references_maker,
        }
        parts: dict[str, Job | Flow] = {
            name: maker.make(phases_of(campaign, by_potential=name != "references"))
            for name, maker in makers.items()
            if maker is not None
        }
        if self.train_maker is not None:
            parts["training"] = self.train_maker.make()
        return parts

    def screening_inputs(self, parts: Mapping[str, Job | Flow]) -> list[OutputReference | None]:
        """Return the checkpoint and the reference sets of the two potentials of the prescreen.

        Inputs that are not needed are None.
        """
        training, prescreen = parts.get("training"), self.composition_maker.prescreen_maker
        inputs = [training and training.output, None, None]
        if prescreen is not None:
            inputs[1] = parts.get("prescreen_references", parts["references"]).output
        if prescreen is not None and prescreen.confirm is not None:
            inputs[2] = parts.get("confirming_references", parts["references"]).output
        return inputs

    def _check_levels(self) -> None:
        """Check that references and the energies compared with them have one level of theory."""
        energy_maker = self.composition_maker.candidate_maker.energy_maker
        pairs = [(self.references_maker, energy_maker.level_of_theory)]
        if (prescreen := self.composition_maker.prescreen_maker) is not None:
            for maker, potential in (
                (self.prescreen_references_maker, prescreen.potential),
                (self.confirming_references_maker, prescreen.confirm),
            ):
                if potential is not None:
                    pairs.append((maker or self.references_maker, level_of_potential(potential)))
        for references_maker, level in pairs:
            own = references_maker.energy_maker.level_of_theory
            if own != level:
                raise UserError(
                    f"CampaignMaker: references of {own} cannot be compared with energies of "
                    f"{level}; give both the same energy_maker."
                )


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
    def level_of_theory(self) -> str:
        """Label of the energies of the candidates."""
        return self._maker.references_maker.energy_maker.level_of_theory

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

    def screen(self, composition: str) -> Flow:
        """Make the jobs of one composition up to the selection."""
        checkpoint, references, confirming = self._maker.screening_inputs(self.shared)
        flow = self._maker.composition_maker.screen(
            composition, checkpoint, references=references, confirming_references=confirming
        )
        return self._own(flow)

    def candidates(self, survivors: Sequence[Survivor]) -> Flow:
        """Make one flow that evaluates the given survivors."""
        maker = self._maker.composition_maker.candidate_maker
        references = self.shared["references"].output
        flows = [maker.make(survivor, references) for survivor in survivors]
        return self._own(Flow(flows, name=f"{len(flows)} candidates"))

    def band_gap(
        self, relaxed: RelaxedStructure, previous: BandGapResult | None = None
    ) -> Job | Flow:
        """Make the jobs of one band gap; ``previous`` is an incomplete result to complete."""
        maker = self._maker.composition_maker.candidate_maker.stability_maker
        gap_jobs = maker.band_gap_jobs(relaxed, previous)
        return label(gap_jobs, self.campaign.name)

    def _own(self, flow: Flow) -> Flow:
        name_by_content(flow, self.campaign.name)
        return route(label(flow, self.campaign.name), self.campaign.routing)


def _own_references(
    potential: PotentialSettings, energy_maker: EnergyMaker
) -> ReferencesMaker | None:
    """Return the Maker of the references of a potential; None if the candidates have its level."""
    own = _references_of(potential)
    is_same = own.energy_maker.level_of_theory == energy_maker.level_of_theory
    return None if is_same else own


def _references_of(potential: PotentialSettings) -> ReferencesMaker:
    return ReferencesMaker(
        name=f"references {potential.name}", energy_maker=PotentialEnergyMaker(potential=potential)
    )
