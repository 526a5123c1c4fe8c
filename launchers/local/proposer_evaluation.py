"""Evaluation of a generator or of structures from files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from gan_htvs.campaign.campaign_file import read_campaign, validate_campaign
from gan_htvs.campaign.model import generator_file
from gan_htvs.core.errors import UserError
from gan_htvs.core.properties import ENERGY_ABOVE_HULL
from gan_htvs.core.stages import ProposerName
from gan_htvs.dataset.arrays import read_array
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.evaluation.evaluation_documents import METASTABLE, Outcome
from gan_htvs.evaluation.evaluation_report import make_report, write_report
from gan_htvs.evaluation.rediscovery import WINDOW, rediscovery, rediscovery_targets
from gan_htvs.evaluation.sample_sets import SampleSet, SampleSettings, draw_samples
from gan_htvs.evaluation.structure_evaluation import (
    THRESHOLDS,
    EvaluationSettings,
    evaluate,
)
from gan_htvs.evaluation.structure_export import export_structures
from gan_htvs.generator import checkpoint
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.structures.structure_files import read_crystals
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.console.output import note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from gan_htvs.campaign.compositions import CompositionSettings
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.evaluation.evaluation_documents import Evaluation, Report
    from gan_htvs.generator.checkpoint import TrainedGenerator

    Progress = Callable[[str, int, int], None]

BASELINES = tuple(name for name in ProposerName if name is not ProposerName.GAN)

N_RELAXED = 20
"""Samples of a proposer that are relaxed by default, of each composition."""

ARRAYS = (".npz", ".npy")
"""Suffixes of arrays in the published layout."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of ``gan-htvs evaluate``.

    Attributes
    ----------
    against
        Names of baselines.
    compositions
        Compositions of the proposers; empty: those of the campaign.
    sampling
        Number of samples and seed; the limit on tries is that of the campaign.
    n_relaxed
        Structures of each composition that are relaxed; None: 20 of proposers, all given ones.
    removes_overlaps
        Whether overlaps in given structures are removed before relaxation.
    rediscover
        Structures to be found; None: none.
    window
        Largest energy above hull of these, eV/atom.
    """

    against: Sequence[str] = ()
    compositions: Sequence[CompositionSettings] = ()
    sampling: SampleSettings = field(default_factory=SampleSettings)
    n_relaxed: int | None = None
    removes_overlaps: bool = False
    rediscover: Path | None = None
    window: float = WINDOW


@dataclass(frozen=True)
class EvaluatedSource:
    """A report and the structures that were evaluated.

    Attributes
    ----------
    report
        The evaluations.
    sample_sets
        Structures of each evaluation.
    """

    report: Report
    sample_sets: Sequence[SampleSet]

    def write(self, folder: Path, *, exports: bool) -> list[Path]:
        """Write the files of the report and, on request, those for other benchmarks."""
        files = write_report(self.report, folder)
        for samples, evaluation in zip(self.sample_sets, self.report.evaluations, strict=True):
            if exports:
                files += _export(samples, evaluation, folder)
        return files


def evaluate_source(
    source: Path,
    campaign_file: Path,
    options: EvaluationOptions,
    *,
    n_workers: int,
    workdir: Path,
    on_progress: Progress,
) -> EvaluatedSource:
    """Evaluate a trained generator or given structures, and baselines.

    Parameters
    ----------
    source, campaign_file
        A checkpoint, ``shipped``, or a file or folder of structures; and a campaign, that of the
        training if it is a checkpoint.
    options
        Sizes and limits.
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
    baselines = _baselines(options.against)
    campaign = read_campaign(campaign_file)
    if options.compositions:
        document = campaign.model_dump(mode="json") | {"compositions": list(options.compositions)}
        campaign = validate_campaign(document, source="--compositions")
    system, states = campaign.chemical_system, campaign.oxidation_states
    trained = given = None
    if source.suffix == ".safetensors" or generator_file(source) != source:
        trained = checkpoint.load(generator_file(source), system=system)
    else:
        given = _given_structures(source, campaign, removes_overlaps=options.removes_overlaps)
    names = [*([ProposerName.GAN] if trained else []), *baselines]
    proposers = [make_proposer(name, system, states, trained, campaign.geometry) for name in names]
    n_samples, n_relaxed = options.sampling.n_samples, options.n_relaxed
    if proposers and n_relaxed is not None and n_relaxed > n_samples:
        note(
            f"--relax {n_relaxed} exceeds --samples {n_samples}: only {n_samples} samples per "
            "composition are relaxed."
        )
    targets_given = _target_structures(options.rediscover, campaign) if options.rediscover else None
    relaxations = Relaxations.of(campaign, workdir, n_processes=n_workers)
    dataset, training, held_out = _dataset(campaign, on_progress)
    if trained and trained.dataset not in (None, training.hash):
        raise UserError(
            f"{campaign_file}: {source} was trained on another dataset than that of this "
            "campaign (section dataset), so novelty and rediscovery would be meaningless; use the "
            "campaign file of the training."
        )
    known = training.structures()
    needs_phases = options.n_relaxed != 0 or campaign.references.path or targets_given
    phases = phases_of(campaign, by_potential=True) if needs_phases else None
    targets = None
    if targets_given and phases:
        references = relaxations.references(
            phases, on_progress=partial(on_progress, "reference phases")
        )
        targets = rediscovery_targets(
            targets_given,
            references,
            relaxations,
            training=known,
            window=options.window,
            geometry=campaign.geometry.for_ions(system.elements, states),
            on_progress=partial(on_progress, "relaxing targets"),
        )
    sampling = replace(
        options.sampling, max_tries_per_structure=campaign.sampling.max_tries_per_structure
    )
    sample_sets = [given] if given else []
    sample_sets += [
        draw_samples(
            proposer,
            campaign.target_counts,
            oxidation_states=states,
            settings=sampling,
            on_progress=on_progress,
        )
        for proposer in proposers
    ]
    evaluations = [
        evaluate(
            samples,
            phases,
            training=known,
            held_out=held_out.structures(),
            relaxations=relaxations,
            settings=_settings(campaign, options.n_relaxed, samples.n_samples),
            on_progress=on_progress,
        )
        for samples in sample_sets
    ]
    found = [
        rediscovery(
            [one.structure for one in samples.samples if one.flaw is None],
            targets,
            relaxed=(
                [s.structure for s in evaluation.samples if s.structure is not None]
                if evaluation.overall.n_relaxed
                else None
            ),
        )
        for samples, evaluation in zip(sample_sets, evaluations, strict=True)
        if targets
    ]
    evaluated: TrainedGenerator | SampleSet = trained or sample_sets[0]
    report = make_report(
        campaign, evaluated, dataset, evaluations, targets=targets, rediscoveries=found
    )
    return EvaluatedSource(report, sample_sets)


def _settings(
    campaign: Campaign, n_relaxed: int | None, n_samples: int | None
) -> EvaluationSettings:
    """Return the settings for samples of a proposer or, without ``n_samples``, given structures."""
    stages = campaign.funnel.windows(ENERGY_ABOVE_HULL)
    limits = {stage.max for stage in stages if stage.max is not None}
    if n_samples is not None:
        n_relaxed = min(N_RELAXED if n_relaxed is None else n_relaxed, n_samples)
    return EvaluationSettings(
        n_relaxed=n_relaxed,
        thresholds=tuple(limits | {METASTABLE, 0.0}) if limits else THRESHOLDS,
        lowest_decomposition_energy=campaign.lowest_decomposition_energy,
    )


def _dataset(campaign: Campaign, on_progress: Progress) -> tuple[Dataset, Dataset, Dataset]:
    """Return the dataset of a campaign, its training part and its held-out part."""
    dataset = build_dataset(
        campaign.chemical_system,
        campaign.oxidation_states,
        campaign.dataset,
        geometry=campaign.geometry,
        on_progress=partial(on_progress, "dataset"),
    )
    for sentence in dataset.source_notes:
        note(sentence)
    return dataset, *dataset.split(campaign.dataset.held_out)


def _given_structures(path: Path, campaign: Campaign, *, removes_overlaps: bool) -> SampleSet:
    """Read structures of the system of a campaign; others are named in a note."""
    structures = _read_structures(path, campaign, "SOURCE")
    return SampleSet.of(
        structures.values(),
        labels=list(structures),
        name=path.name,
        geometry=campaign.geometry.for_ions(
            campaign.chemical_system.elements, campaign.oxidation_states
        ),
        removes_overlaps=removes_overlaps,
    )


def _target_structures(path: Path, campaign: Campaign) -> Mapping[str, Structure]:
    """Read structures to be found: files, or an array in the published layout."""
    if path.suffix not in ARRAYS:
        return _read_structures(path, campaign, "--rediscover")
    rows = list(read_array(path, campaign.chemical_system, "--rediscover"))
    structures = {
        str(row.label): row.structure
        for row in rows
        if not isinstance(row.structure, str | ValueError)
    }
    if not structures:
        raise UserError(f"--rediscover {path}: no row is a crystal; give another file.")
    if skipped := len(rows) - len(structures):
        note(f"--rediscover {path}: {skipped:,} of {len(rows):,} rows are no crystals.")
    return structures


def _read_structures(path: Path, campaign: Campaign, field: str) -> Mapping[str, Structure]:
    """Read structures of a file, archive or folder; name those that are skipped in notes."""
    folder = read_crystals(path, field)
    elements = set(campaign.chemical_system.elements)
    for label, structure in list(folder.structures.items()):
        if foreign := sorted(set(structure.symbol_set) - elements):
            folder.skipped[label] = f"has {', '.join(foreign)}"
            del folder.structures[label]
    for sentence in folder.source_notes:
        note(sentence)
    if not folder.structures:
        raise UserError(
            f"{field} {path}: has no structure of {campaign.chemical_system.chemsys}; give others "
            "or another --campaign."
        )
    return folder.structures


def _export(samples: SampleSet, evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the samples before relaxation, and those whose relaxation is sound."""
    names = [f"{one.composition}-{one.index}" for one in samples.samples]
    generated = dict(zip(names, samples.structures, strict=True))
    files = export_structures(generated, folder, f"{samples.name}-samples")
    relaxed = {
        name: sample.structure
        for name, sample in zip(names, evaluation.samples, strict=True)
        if sample.outcome is Outcome.SOUND and sample.structure is not None
    }
    if relaxed:
        files += export_structures(relaxed, folder, f"{samples.name}-relaxed")
    return files


def _baselines(names: Sequence[str]) -> list[ProposerName]:
    for name in names:
        if name not in BASELINES:
            raise UserError(
                f"--against: {name!r} is not a baseline; choose from {', '.join(BASELINES)}."
            )
    return [ProposerName(name) for name in dict.fromkeys(names)]
