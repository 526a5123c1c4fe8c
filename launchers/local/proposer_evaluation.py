"""Evaluation of a generator from files, and its report on the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gan_htvs.campaign.campaign_file import read_campaign, validate_campaign
from gan_htvs.campaign.model import generator_file
from gan_htvs.core.errors import UserError
from gan_htvs.core.properties import ENERGY_ABOVE_HULL
from gan_htvs.core.stages import ProposerName
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.evaluation.evaluation_documents import METASTABLE
from gan_htvs.evaluation.evaluation_report import make_report
from gan_htvs.evaluation.sample_sets import draw_samples
from gan_htvs.evaluation.structure_evaluation import (
    THRESHOLDS,
    EvaluationSettings,
    evaluate,
)
from gan_htvs.generator import checkpoint
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.console.output import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gan_htvs.campaign.compositions import CompositionSettings
    from gan_htvs.evaluation.evaluation_documents import Report
    from gan_htvs.evaluation.sample_sets import SampleSettings

BASELINES = tuple(name for name in ProposerName if name is not ProposerName.GAN)


def evaluate_checkpoint(
    checkpoint_file: Path,
    campaign_file: Path,
    *,
    against: Sequence[str],
    compositions: Sequence[CompositionSettings],
    sampling: SampleSettings,
    n_relaxed: int,
    n_workers: int,
    workdir: Path,
    on_progress: Callable[[str, int, int], None],
) -> Report:
    """Evaluate a trained generator and baselines.

    Parameters
    ----------
    checkpoint_file, campaign_file
        The generator, or ``shipped``, and the campaign that it was trained for.
    against
        Names of baselines.
    compositions
        Compositions; empty: those of the campaign.
    sampling
        Number of samples and seed; the limit on tries is that of the campaign.
    n_relaxed
        Number of samples of each composition that are relaxed, at most all.
    n_workers
        Number of processes for relaxations.
    workdir
        Folder of the relaxation cache, in a subfolder named after the campaign.
    on_progress
        Called with the step, the number done and the total.

    Raises
    ------
    UserError
        If a file, a name or a composition is wrong.
    """
    baselines = _baselines(against)
    campaign = read_campaign(campaign_file)
    if compositions:
        document = campaign.model_dump(mode="json") | {"compositions": list(compositions)}
        campaign = validate_campaign(document, source="--compositions")
    system = campaign.chemical_system
    trained = checkpoint.load(generator_file(checkpoint_file), system=system)
    proposers = [
        make_proposer(name, system, campaign.oxidation_states, trained, campaign.geometry)
        for name in (ProposerName.GAN, *baselines)
    ]
    relaxations = Relaxations.of(campaign, workdir, n_processes=n_workers)
    dataset = build_dataset(
        system,
        campaign.oxidation_states,
        campaign.dataset,
        geometry=campaign.geometry,
        on_progress=lambda done, total: on_progress("dataset", done, total),
    )
    for sentence in dataset.source_notes:
        note(sentence)
    training, held_out = dataset.split(campaign.dataset.held_out)
    if trained.dataset not in (None, training.hash):
        raise UserError(
            f"{campaign_file}: {checkpoint_file} was trained on another dataset than that of this "
            "campaign (section dataset), so novelty and rediscovery would be meaningless; use the "
            "campaign file of the training."
        )
    stages = campaign.funnel.windows(ENERGY_ABOVE_HULL)
    limits = {stage.max for stage in stages if stage.max is not None}
    settings = EvaluationSettings(
        n_relaxed=min(n_relaxed, sampling.n_samples),
        thresholds=(*(limits | {METASTABLE}), 0.0) if limits else THRESHOLDS,
        lowest_decomposition_energy=campaign.lowest_decomposition_energy,
    )
    sampling = replace(sampling, max_tries_per_structure=campaign.sampling.max_tries_per_structure)
    needs_phases = n_relaxed > 0 or campaign.references.path is not None
    phases = phases_of(campaign, by_potential=True) if needs_phases else None
    evaluations = [
        evaluate(
            draw_samples(
                proposer,
                campaign.target_counts,
                oxidation_states=campaign.oxidation_states,
                settings=sampling,
                on_progress=on_progress,
            ),
            phases,
            training=training.structures(),
            held_out=held_out.structures(),
            relaxations=relaxations,
            settings=settings,
            on_progress=on_progress,
        )
        for proposer in proposers
    ]
    return make_report(campaign, trained, dataset, evaluations)


def _baselines(names: Sequence[str]) -> list[ProposerName]:
    for name in names:
        if name not in BASELINES:
            raise UserError(
                f"--against: {name!r} is not a baseline; choose from {', '.join(BASELINES)}."
            )
    return [ProposerName(name) for name in dict.fromkeys(names)]
