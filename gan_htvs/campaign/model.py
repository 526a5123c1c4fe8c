"""The model of campaign.yaml: chemical system, methods and stages of a campaign."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from gan_htvs.campaign.compositions import CompositionSettings
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.campaign.routing import RoutingSettings
from gan_htvs.core.chemical_system import ChemicalSystem, Counts
from gan_htvs.core.funnel_stages import (
    PUBLISHED_STAGES,
    FunnelSettings,
    FunnelStage,
    check_stages,
)
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.properties import BAND_GAP, ENERGY_ABOVE_HULL, POURBAIX, UserProperty, element_of
from gan_htvs.core.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    NonPositiveFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from gan_htvs.core.stages import ProposerName
from gan_htvs.core.text import is_text_everywhere
from gan_htvs.generator.presets import training_parameters
from gan_htvs.prescreen.prescreen_settings import PrescreenSettings
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.thermodynamics.plausibility import LOWEST_OF_INCOMPLETE
from gan_htvs.thermodynamics.reference_sources.optimade import PROVIDERS

OxidationRange = tuple[float, float]

MAX_SEED = 2**63 - 1
"""Largest integer that torch, NumPy and MongoDB accept."""

SHIPPED = Path("shipped")
"""Name of the generator that is part of the package."""

SHIPPED_GENERATOR = Path(__file__).parents[1] / "generator" / "mg-mn-o.safetensors"
"""Trained generator, described in docs/model-card.md."""


def generator_file(name: Path) -> Path:
    """Return the file of a trained generator; ``shipped`` is the one of the package."""
    return SHIPPED_GENERATOR if name == SHIPPED else name


def structures_in_round(n_structures: int, n_rounds: int, number: int) -> int:
    """Return the part of round ``number``, from 1; the first rounds have the remainder."""
    whole, remainder = divmod(n_structures, n_rounds)
    return whole + (number <= remainder)


class DatasetSettings(Settings):
    """Source of the training structures."""

    source: Literal["prototypes", "shipped", "array", "folder", "materials_project"] = Field(
        "prototypes",
        description="'prototypes': decorated AFLOW and textbook lattices, no files needed; "
        "'shipped': relaxed Mg-Mn-O structures that are part of the package; 'array': a .npz or "
        ".npy file of images, such as the published file or output of `gan-htvs dataset`; "
        "'folder': structure files: CIF, POSCAR, extended XYZ, JSON of pymatgen; "
        "'materials_project': needs your API key",
    )
    path: Path | None = Field(
        None, description="path of the 'array' file or the 'folder', relative to campaign.yaml"
    )
    sha256: str | None = Field(None, description="hash of the file or folder; computed if omitted")
    max_structures: PositiveInt = Field(2000, description="upper bound on unique structures")
    max_per_composition: PositiveInt | None = Field(
        None,
        description="largest number of decorated prototypes of one composition, ignored for other "
        "sources; null: chosen for about 1000 structures in all",
    )
    max_energy_above_hull: PositiveFloat = Field(
        0.5,
        description="largest energy above hull of structures from sources with energies "
        "('materials_project', 'shipped', an 'array' from `gan-htvs dataset`) and of the "
        "structures that `gan-htvs dataset` keeps, eV/atom",
    )
    held_out: float = Field(
        0.0, ge=0, lt=1, description="share of structures that are excluded from training"
    )

    @model_validator(mode="after")
    def _files_need_a_path(self) -> DatasetSettings:
        if (self.source in ("array", "folder")) != (self.path is not None):
            raise ValueError(
                "'path' is required for sources 'array' and 'folder' and invalid for others"
            )
        return self


class GeneratorSettings(Settings):
    """The generator and its training. Defaults are the ``paper`` preset."""

    checkpoint: Path | None = Field(
        None,
        description="trained generator to sample from: a file from `gan-htvs train`, relative to "
        "campaign.yaml; 'shipped': the Mg-Mn-O generator of the package; null: train one",
    )
    sha256: str | None = Field(None, description="hash of the checkpoint; computed if omitted")
    preset: Literal["paper", "authors", "tuned"] = Field(
        "paper", description="set of training parameters, see docs/generator.md"
    )
    overrides: dict[str, float | int] = Field(
        default_factory=dict, description="training parameters that differ from the preset"
    )
    max_steps: PositiveInt = Field(20_000, description="number of training steps of the generator")
    max_seconds: PositiveFloat | None = Field(
        None, description="largest wall time of the training, s; null: no limit"
    )
    seed: int = Field(
        0,
        ge=-MAX_SEED,
        le=MAX_SEED,
        description="random seed of weights, batches and noise of the training",
    )
    rounds: PositiveInt = Field(
        1,
        description="rounds of sampling; after each round, the generator is trained on the "
        "structures that were found, see docs/generator.md. Each round samples an equal part of "
        "`structures_per_composition`, and the other proposers take part in the first",
    )
    round_steps: PositiveInt = Field(
        1000, description="number of training steps of the generator after each round"
    )
    round_max_energy_above_hull: PositiveFloat = Field(
        0.1,
        description="largest energy above hull of relaxed structures that join the training set "
        "after a round, at the level of theory of the prescreen, eV/atom",
    )
    round_max_structures: PositiveInt = Field(
        4000,
        description="upper bound on the training set of a round, at least `dataset.max_structures`;"
        " those of highest energy in the most common frameworks are dropped",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of the training; 'auto': a GPU if available"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of matrix products in training; 'auto': the fastest on the device",
    )

    @property
    def checkpoint_file(self) -> Path | None:
        """Path of the checkpoint on this machine."""
        return None if self.checkpoint is None else generator_file(self.checkpoint)

    @model_validator(mode="after")
    def _overrides_exist(self) -> GeneratorSettings:
        training_parameters(self.preset, self.overrides)
        return self


class SamplingSettings(Settings):
    """Proposers, and number of structures to sample."""

    proposers: tuple[ProposerName, ...] = Field(
        (ProposerName.GAN,),
        description="any of 'gan', 'random' (random cells and positions), 'symmetric' (random "
        "crystals of random space groups) and 'substitution' (decorated prototypes); empty: only "
        "`structures` are evaluated",
    )
    structures_per_composition: PositiveInt = Field(
        300,
        le=1000,
        description="valid, unique structures of each composition from each proposer",
    )
    batch_size: PositiveInt = Field(
        100, le=200, description="number of structures that one job prescreens"
    )
    max_tries_per_structure: PositiveInt = Field(
        200,
        description="largest number of raw samples per requested structure; when it is reached, "
        "sampling stops with fewer structures",
    )
    best_of: PositiveInt = Field(
        1,
        le=100,
        description="structures that are sampled for each one that is kept, the one with the "
        "lowest energy before relaxation, computed with the potential of the prescreen; 1: all "
        "are kept",
    )
    skip_known: bool = Field(
        False,
        description="whether samples of the generator that match a structure of its training set, "
        "if this is known, are dropped",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="random seed of the sampling")

    @model_validator(mode="after")
    def _tries_suffice_for_the_choice(self) -> SamplingSettings:
        if self.best_of > self.max_tries_per_structure:
            raise ValueError(
                f"best_of ({self.best_of}) must not exceed max_tries_per_structure "
                f"({self.max_tries_per_structure})"
            )
        return self

    @model_validator(mode="after")
    def _proposers_differ(self) -> SamplingSettings:
        for name in self.proposers:
            if self.proposers.count(name) > 1:
                raise ValueError(f"proposers has {name.value!r} twice")
        return self


class OwnStructuresSettings(Settings):
    """Structures of the user, evaluated without sampling or prescreen."""

    path: Path = Field(
        description="folder of structure files: CIF, POSCAR, extended XYZ, JSON of pymatgen; "
        "relative to campaign.yaml"
    )
    sha256: str | None = Field(None, description="hash of the folder; computed if omitted")
    count: NonNegativeInt = Field(
        0, description="number of different structures in the folder; computed"
    )
    source_notes: tuple[str, ...] = Field(
        (), description="skipped files, and structures that were changed when read; computed"
    )


METASTABLE = 0.2
"""Window of the prescreen without a stage that limits the energy above hull, eV/atom."""

OWN_REFERENCES = ("folder", "file")
"""Sources of reference phases that the user collected."""


class ReferenceSettings(Settings):
    """Source of the reference phases that define the convex hull."""

    source: Literal["auto", "literature", "optimade", "materials_project", "folder", "file"] = (
        Field(
            "auto",
            description="'auto': 'literature' where it covers the chemical system, otherwise the "
            "phases that were fetched into references.json; 'literature': crystal data of the "
            "package, for Mg-Mn-O and V-O; 'optimade': from an OPTIMADE server, no key needed; "
            "'materials_project': needs your API key; 'folder': structure "
            "files: CIF, POSCAR, extended XYZ, JSON of pymatgen; 'file': "
            "JSON file (.json or .json.gz) of pymatgen structures or ComputedStructureEntries, "
            "such as an export of the Materials Project",
        )
    )
    provider: str = Field(
        "materials_project",
        description="for 'optimade': 'materials_project', 'alexandria' (PBE), or the base URL of "
        "any server, of which all structures are used",
    )
    max_energy_above_hull: NonNegativeFloat = Field(
        0.05,
        description="for sources with energies ('optimade', 'materials_project', a 'file' with "
        "energies): largest energy above their own hull, eV/atom",
    )
    lowest_decomposition_energy: NonPositiveFloat | None = Field(
        None,
        description="lowest plausible decomposition energy of candidates into reference phases, "
        "eV/atom; lower ones are rejected as artifacts of the potential; null: -0.1, or -0.3 if "
        "reference phases may be missing, see docs/stability.md",
    )
    energies: Literal["computed", "materials_project"] = Field(
        "computed",
        description="'computed': by the energy engine of the campaign; 'materials_project': "
        "published energies, only for the energy engine 'vasp', which has the same settings",
    )
    path: Path | None = Field(
        None,
        description="'folder' or 'file' of your phases, relative to campaign.yaml; for 'optimade' "
        "and 'materials_project': file of the fetched phases, written if it does not exist "
        "(default: references.json)",
    )
    sha256: str | None = Field(None, description="hash of the file or folder; computed if omitted")

    @field_validator("provider")
    @classmethod
    def _provider_is_known(cls, provider: str) -> str:
        if provider not in PROVIDERS and not provider.startswith(("http://", "https://")):
            raise ValueError(
                f"{provider!r} must be {' or '.join(map(repr, PROVIDERS))}, or the base URL of an "
                "OPTIMADE server, such as https://example.org/optimade"
            )
        return provider

    @model_validator(mode="after")
    def _source_agrees_with_other_settings(self) -> ReferenceSettings:
        if self.source in OWN_REFERENCES and self.path is None:
            raise ValueError(f"'path' is required for source {self.source!r}")
        if self.source in ("auto", "literature") and self.path is not None:
            raise ValueError(
                f"'path' is invalid for source {self.source!r}; name the source of the file: "
                "'folder', 'file', 'optimade' or 'materials_project'"
            )
        if self.energies == "materials_project" != self.source:
            raise ValueError("energies 'materials_project' require source 'materials_project'")
        return self

    @property
    def origin(self) -> str:
        """Source of the phases with its provider or file, in words."""
        match self.source:
            case "auto" | "literature":
                return "literature"
            case "optimade":
                return f"{self.provider}, OPTIMADE"
            case "folder" | "file":
                return f"{self.source} {self.path.name}" if self.path else self.source
        return self.source

    @property
    def completeness_warning(self) -> str | None:
        """Warning that phases of a folder or file may be incomplete; None for other sources."""
        if self.source not in OWN_REFERENCES:
            return None
        return (
            f"It is unknown whether the reference phases ({self.origin}) are complete: candidates "
            "look too stable if a competing phase is missing."
        )


class Campaign(Settings):
    """Contents of campaign.yaml."""

    name: str = Field(
        description="name of the campaign, stored with its jobs and candidates; letters, digits, "
        "., _ and -; not a number, date, truth value, none or null"
    )
    chemical_system: ChemicalSystem
    oxidation_states: dict[str, OxidationRange] = Field(
        description="lowest and highest average oxidation state of each element"
    )
    compositions: tuple[CompositionSettings, ...] = Field(
        (),
        description="formulas; a reduced one (LiMn2O4) is searched in all cells within the caps "
        "and `max_atoms`, another one (Li2Mn4O8) in that cell; {formula: LiMn2O4, atoms_per_cell: "
        "[7, 14]} chooses cells; empty: all charge-balanced cells",
    )
    max_atoms: PositiveInt | None = Field(
        None,
        description="largest number of atoms per cell, except in cells that `compositions` names",
    )
    dataset: DatasetSettings = DatasetSettings()
    generator: GeneratorSettings = GeneratorSettings()
    sampling: SamplingSettings = SamplingSettings()
    structures: OwnStructuresSettings | None = Field(
        None, description="your own structures, evaluated besides the sampled ones"
    )
    geometry: GeometryLimits = GeometryLimits()
    stages: tuple[FunnelStage, ...] = Field(
        PUBLISHED_STAGES,
        description="stages of the funnel, in the order in which candidates pass them, see "
        "docs/funnel.md; default: the published search for photoanodes",
    )
    properties: dict[str, UserProperty] = Field(
        default_factory=dict, description="properties that your own code computes, by name"
    )
    references: ReferenceSettings = ReferenceSettings()
    pourbaix: PourbaixSettings | None = Field(
        PourbaixSettings(),
        description="conditions of the Pourbaix decomposition energy; unused if no stage needs it",
    )
    engines: EngineSettings = EngineSettings()
    prescreen: PrescreenSettings | None = Field(
        PrescreenSettings(),
        description="screening by interatomic potentials before the evaluation; null: all "
        "structures are evaluated",
    )
    routing: RoutingSettings = RoutingSettings()

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_plain(cls, value: object) -> str:
        name = str(value)  # of a number, date or truth value without quotes
        if not is_text_everywhere(name):
            raise ValueError(
                f"{name!r} would be read as a number, date, truth value or missing value from "
                "YAML, CSV and extxyz files; add a word, as in 'mg-mn-o-2024'"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(
                f"{name!r} must be 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and "
                "underscores, and start with a letter or digit"
            )
        return name

    @model_validator(mode="after")
    def _chemistry_is_possible(self) -> Campaign:
        system = self.chemical_system
        if set(self.oxidation_states) != set(system.elements):
            raise ValueError(
                f"oxidation_states must name exactly {', '.join(system.elements)}, "
                f"not {', '.join(self.oxidation_states)}"
            )
        for symbol, (low, high) in self.oxidation_states.items():
            if low > high:
                raise ValueError(f"oxidation_states.{symbol}: {low:g} must not be above {high:g}")
        for composition in self.compositions:
            formula = composition.formula
            try:
                counts, *_ = composition.cells(system, self.max_atoms)
            except ValueError as error:
                raise ValueError(f"compositions: {formula!r} is impossible: {error}") from error
            if not system.is_charge_balanced(counts, self.oxidation_states):
                raise ValueError(
                    f"compositions: {formula!r} is impossible: no oxidation states within "
                    "oxidation_states make it charge-neutral"
                )
        if not self.sampling.proposers and self.structures is None:
            raise ValueError("sampling.proposers is empty; add a proposer, or set structures.path")
        if self.sampling.proposers and not self.target_counts:
            raise ValueError(
                "no composition is within caps, max_atoms and oxidation_states; widen one of them"
            )
        return self

    @model_validator(mode="after")
    def _stages_can_be_computed(self) -> Campaign:
        check_stages(self.stages, self.properties)
        for i, stage in enumerate(self.stages):
            symbol = element_of(stage.property)
            if symbol is not None and symbol not in self.chemical_system.elements:
                raise ValueError(
                    f"stages.{i}: {symbol} of {stage.property} is not in "
                    f"{self.chemical_system.chemsys}"
                )
        if self.pourbaix is None and self.funnel.uses(POURBAIX):
            stage = next(self.funnel.windows(POURBAIX))
            raise ValueError(
                f"pourbaix: null has no conditions for stage {stage.name!r}; remove the stages "
                f"with property {POURBAIX!r} from stages, or remove this line"
            )
        return self

    @model_validator(mode="after")
    def _rounds_are_possible(self) -> Campaign:
        rounds, sampling = self.generator.rounds, self.sampling
        if rounds == 1:
            return self
        if ProposerName.GAN not in sampling.proposers:
            raise ValueError(
                f"generator.rounds ({rounds}) needs the proposer 'gan'; add it to "
                "sampling.proposers, or set generator.rounds to 1"
            )
        if self.prescreen is None:
            raise ValueError(
                f"generator.rounds ({rounds}) needs the relaxations of the prescreen; remove the "
                "line prescreen: null, or set generator.rounds to 1"
            )
        if rounds > sampling.structures_per_composition:
            raise ValueError(
                f"generator.rounds ({rounds}) must not exceed sampling.structures_per_composition "
                f"({sampling.structures_per_composition})"
            )
        largest, source = self.generator.round_max_structures, self.dataset.max_structures
        if largest < source:
            raise ValueError(
                f"generator.round_max_structures ({largest}) must not be below "
                f"dataset.max_structures ({source})"
            )
        return self

    @model_validator(mode="after")
    def _limits_are_of_its_elements(self) -> Campaign:
        if foreign := sorted(self.geometry.elements() - set(self.chemical_system.elements)):
            raise ValueError(
                f"geometry names {', '.join(foreign)}, outside {self.chemical_system.chemsys}; "
                "remove these pairs"
            )
        return self

    @model_validator(mode="after")
    def _published_energies_are_comparable(self) -> Campaign:
        if self.references.energies == "computed":
            return self
        for setting, value, needed in (
            ("engines.energy.name", self.engines.energy.name, "vasp"),
            ("engines.vasp.potcar_functional", self.engines.vasp.potcar_functional, "PBE"),
        ):
            if value != needed:
                raise ValueError(
                    f"references.energies: {self.references.energies!r} requires {setting} "
                    f"{needed!r}, not {value!r}; write 'computed'"
                )
        return self

    @model_validator(mode="after")
    def _no_potential_confirms_itself(self) -> Campaign:
        if self.prescreen is not None:
            relaxing, *others = self.prescreen.potentials(self.engines)
            if any((o.name, o.arguments) == (relaxing.name, relaxing.arguments) for o in others):
                raise ValueError(
                    f"prescreen.confirm: {relaxing.name!r} would confirm itself; choose another "
                    "potential, or 'none'"
                )
        return self

    @property
    def funnel(self) -> FunnelSettings:
        """Stages with their properties."""
        return FunnelSettings(stages=self.stages, properties=self.properties)

    @property
    def aqueous_conditions(self) -> PourbaixSettings | None:
        """Conditions of the Pourbaix decomposition energy; None if no stage needs it."""
        return self.pourbaix if self.funnel.uses(POURBAIX) else None

    @property
    def computes_gaps(self) -> bool:
        """Whether a stage needs band gaps and an engine computes them."""
        return self.funnel.uses(BAND_GAP) and self.engines.band_gap.name != "none"

    @property
    def prescreen_window(self) -> float:
        """Largest energy above hull of survivors of the prescreen, eV/atom."""
        if self.prescreen is not None and self.prescreen.window is not None:
            return self.prescreen.window
        loosest = self.funnel.loosest_max(ENERGY_ABOVE_HULL)
        return METASTABLE if loosest is None else loosest

    @property
    def lowest_decomposition_energy(self) -> float | None:
        """Lowest plausible decomposition energy, eV/atom; None: depends on the composition.

        It is unknown whether a folder or file of reference phases is complete.
        """
        lowest = self.references.lowest_decomposition_energy
        if lowest is None and self.references.source in OWN_REFERENCES:
            return LOWEST_OF_INCOMPLETE
        return lowest

    @property
    def target_counts(self) -> tuple[Counts, ...]:
        """Atoms per cell of each composition to sample."""
        system = self.chemical_system
        if not self.sampling.proposers:
            return ()
        if self.compositions:
            cells = (c.cells(system, self.max_atoms) for c in self.compositions)
            return tuple(dict.fromkeys(chain.from_iterable(cells)))
        return tuple(system.compositions(self.oxidation_states, self.max_atoms))

    @property
    def n_structures(self) -> int:
        """Number of structures to sample, plus the structures of the user."""
        sampling = self.sampling
        per_composition = sampling.structures_per_composition * len(sampling.proposers)
        n_own = self.structures.count if self.structures else 0
        return len(self.target_counts) * per_composition + n_own
