"""Counts of the structures that reach each stage of the funnel, measured and published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gan_htvs.core.funnel_stages import PUBLISHED_STAGES
from gan_htvs.core.stages import REFERENCE_PHASE, ScreeningStep
from gan_htvs.results.space_groups import SPACE_GROUP_FIELDS, P1Counts, p1_note
from gan_htvs.thermodynamics.coverage import all_uncovered, incomplete_hull_warning, within
from gan_htvs.thermodynamics.plausibility import SETTING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.funnel_stages import FunnelStage
    from gan_htvs.core.properties import Property

CANDIDATE_FIELDS = (
    *("candidate_id", "stage", "origin.proposer", "energy_above_hull", "decomposition_energy"),
    *("reference_decomposition_energy", "incomplete_band_gap", "novelty.is_novel"),
    *("duplicate_of", "uncovered_subsystems", "prescreen.rejected_at"),
    "prescreen.decomposition_energy",
    *SPACE_GROUP_FIELDS,
)
"""Fields of a candidate document that the counts need, besides those of the stages."""

PUBLISHED_SOURCE = "Mg-Mn-O, Kim et al. 2020 (DFT)"
"""ACS Cent. Sci. 2020, 6, 1412; energies and gaps are from DFT."""
PUBLISHED_COLUMN = f"published:\n{PUBLISHED_SOURCE}"
PUBLISHED_ELEMENTS = {"Mg", "Mn", "O"}
PUBLISHED_GENERATED, PUBLISHED_METASTABLE, PUBLISHED_SYNTHESIZABLE = 9300, 1121, 148
PUBLISHED_COUNTS = {
    "metastable": PUBLISHED_METASTABLE,
    "synthesizable": PUBLISHED_SYNTHESIZABLE,
    "photoanode": 28,
}
"""Numbers of structures in that study, by stage."""

NEW = "new crystals"
"""Column of the crystals that match neither a training structure nor a reference phase; duplicates
count once."""

REFERENCE_PHASES = "reference phases"
GENERATED, SURVIVED, RELAXED = "generated", "survived the prescreen", "relaxed"
"""Names of the first stages; the second exists only in campaigns with a prescreen."""

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)


class Criterion(NamedTuple):
    """A stage: its name, the published count, and the test that a candidate must pass."""

    name: str
    published: int | None
    passes: Callable[[Row], bool]


@dataclass(frozen=True)
class Funnel:
    """Counts by stage.

    Attributes
    ----------
    stages
        Names of the stages, first stage first.
    counts
        Counts per stage, by column: proposed structures, :data:`NEW` among them, reference phases.
        None if the column does not apply to a stage.
    published
        Counts of the published study by stage, None if it has no number for this stage and
        threshold; None instead of a list for other chemical systems than Mg-Mn-O.
    setting
        Size of the search: quantity, value of this campaign, published value.
    n_incomplete_gaps
        Candidates whose band gap lacks magnetic orderings.
    accepts_incomplete_gaps
        Whether these gaps count in the stages.
    uncovered_subsystems
        Subsystems of the campaign without a reference phase, in which the hull is incomplete.
        Reference phases may have other elements: Na2SO4 gives the energies of aqueous ions of S.
    n_implausible
        Structures that were rejected because their energy is too far below the hull.
    p1
        Candidates without symmetry, by proposer.
    """

    stages: list[str]
    counts: dict[str, list[int | None]]
    published: list[int | None] | None
    setting: list[tuple[str, int | None, int | None]]
    n_incomplete_gaps: int = 0
    accepts_incomplete_gaps: bool = False
    uncovered_subsystems: tuple[str, ...] = ()
    n_implausible: int = 0
    p1: dict[str, P1Counts] = field(default_factory=dict)

    @property
    def hull_warning(self) -> str | None:
        """Warning that the hull is incomplete; None if it is complete."""
        return incomplete_hull_warning(self.uncovered_subsystems)

    @property
    def implausible_warning(self) -> str | None:
        """Note on energies that are not believed; None if there are none."""
        if not (n := self.n_implausible):
            return None
        structures = "1 structure is" if n == 1 else f"{n:,} structures are"
        return (
            f"{structures} rejected because the energy is too far below the hull ({SETTING}): "
            "holes of the potential, or missing reference phases."
        )

    @property
    def p1_note(self) -> str | None:
        """Numbers of candidates without symmetry; None if none was relaxed."""
        return p1_note(self.p1)

    @property
    def columns(self) -> dict[str, list[int | None]]:
        """Counts by the heading of their column, with the published ones last if there are any."""
        published = {} if self.published is None else {PUBLISHED_COLUMN: self.published}
        return self.counts | published

    @property
    def setting_rows(self) -> list[tuple[str, list[int | None]]]:
        """Quantities of ``setting`` with a value for each of ``columns``, None if it has none."""
        blank: list[int | None] = [None] * (len(self.counts) - 1)
        return [
            (name, [measured, *blank, *([] if self.published is None else [published])])
            for name, measured, published in self.setting
        ]

    @property
    def caveat(self) -> str | None:
        """Note on incomplete band gaps; None if there are none."""
        if not (n := self.n_incomplete_gaps):
            return None
        gaps = "1 band gap is" if n == 1 else f"{n:,} band gaps are"
        setting = "engines.band_gap.accept_incomplete"
        counted = f"counted ({setting})" if self.accepts_incomplete_gaps else "counted in no stage"
        return f"{gaps} incomplete (magnetic orderings are missing) and {counted}."


def criteria(campaign: Campaign) -> list[Criterion]:
    """List the stages; a candidate must also pass all earlier ones."""
    funnel = campaign.funnel
    stages = [
        Criterion(GENERATED, PUBLISHED_GENERATED, bool),
        Criterion(SURVIVED, None, _survived),
        Criterion(RELAXED, None, _has_energy),
    ]
    for i, stage in enumerate(funnel.stages):
        quantity = funnel.quantity(stage.property)
        is_published = funnel.stages[: i + 1] == PUBLISHED_STAGES[: i + 1]
        published = PUBLISHED_COUNTS.get(stage.name) if is_published else None
        title = f"{stage.name} ({stage.describe(quantity)})"
        stages.append(Criterion(title, published, partial(_passes, stage, quantity)))
    return [stage for stage in stages if campaign.prescreen or stage.name != SURVIVED]


def _passes(stage: FunnelStage, quantity: Property, candidate: Row) -> bool:
    value = quantity.value_in(candidate)
    return value is not None and not is_implausible(candidate) and stage.admits(value)


def _has_energy(candidate: Row) -> bool:
    """Return whether a candidate was compared with reference phases."""
    return candidate.get("reference_decomposition_energy") is not None


def _survived(candidate: Row) -> bool:
    """Return whether a candidate passed the prescreen, or was evaluated without one."""
    prescreen = candidate.get("prescreen")
    if prescreen is None:
        return _has_energy(candidate)
    return prescreen.get("rejected_at") is None


def count_funnel(
    candidates: Iterable[Row],
    stages: Sequence[Criterion],
    name: Callable[[Row], str] = itemgetter("candidate_id"),
) -> dict[str, int]:
    """Count how many candidates pass each criterion, in the order of the funnel.

    Criteria accumulate: a candidate that counts in one stage counts in all earlier stages.
    Candidates with the same ``name`` count once.
    """
    passed: dict[str, set[str]] = {stage.name: set() for stage in stages}
    for candidate in candidates:
        for stage in stages:
            if not stage.passes(candidate):
                break
            passed[stage.name].add(name(candidate))
    return {stage: len(names) for stage, names in passed.items()}


def measure_funnel(
    candidates: Iterable[Row],
    campaign: Campaign,
    *,
    n_training: int | None = None,
    n_reference_phases: int | None = None,
) -> Funnel:
    """Count the candidates of a campaign, proposer by proposer, reference phases last.

    Parameters
    ----------
    candidates
        Documents with the fields :data:`CANDIDATE_FIELDS`.
    campaign
        Their campaign.
    n_training, n_reference_phases
        Numbers of training structures and of reference phases; None if unknown.
    """
    system = campaign.chemical_system
    stages = criteria(campaign)
    count = partial(count_funnel, stages=stages)
    names = [stage.name for stage in stages]
    groups: dict[str, list[Row]] = {str(name): [] for name in campaign.sampling.proposers}
    n_incomplete_gaps = 0
    rows = list(candidates)
    for candidate in rows:
        groups.setdefault(candidate["origin"]["proposer"], []).append(candidate)
        n_incomplete_gaps += candidate.get("incomplete_band_gap") is not None
    reference_phases = groups.pop(REFERENCE_PHASE, [])
    counts: dict[str, list[int | None]] = {}
    for name, group in groups.items():
        new = count(filter(is_novel, group), name=crystal_id)
        counts[name] = list(count(group).values())
        # Novelty is determined for relaxed structures only.
        column = NEW if len(groups) == 1 else f"{name}, new"
        counts[column] = [None if stage in (GENERATED, SURVIVED) else new[stage] for stage in names]
    phases = count(reference_phases)
    # Reference phases are not generated.
    counts[REFERENCE_PHASES] = [
        None if stage in (GENERATED, SURVIVED) else phases[stage] for stage in names
    ]
    same_system = set(system.elements) == PUBLISHED_ELEMENTS
    n_compositions = len(list(system.compositions(campaign.oxidation_states, campaign.max_atoms)))
    setting = {
        "training structures": (n_training, 1240),
        REFERENCE_PHASES: (n_reference_phases, None),
        "charge-balanced compositions": (n_compositions, 133),
        "compositions searched": (len(campaign.target_counts), 31),
    }
    return Funnel(
        names,
        counts,
        [stage.published for stage in stages] if same_system else None,
        [(name, n, other if same_system else None) for name, (n, other) in setting.items()],
        n_incomplete_gaps,
        campaign.engines.band_gap.accept_incomplete,
        tuple(within(all_uncovered(rows), system.elements)),
        sum(is_implausible(row) or _is_implausible_in_prescreen(row) for row in rows),
        {name: P1Counts.of(group) for name, group in groups.items()},
    )


def is_novel(candidate: Row) -> bool:
    """Return whether a candidate matches neither a training structure nor a reference phase."""
    return bool((candidate.get("novelty") or {}).get("is_novel"))


def is_implausible(candidate: Row) -> bool:
    """Return whether a candidate was rejected because its energy is too far below the hull."""
    return _has_energy(candidate) and candidate.get("energy_above_hull") is None


def _is_implausible_in_prescreen(candidate: Row) -> bool:
    prescreen = candidate.get("prescreen") or {}
    energy = prescreen.get("decomposition_energy")
    rejected_at = prescreen.get("rejected_at")
    return energy is not None and energy < 0 and rejected_at == ScreeningStep.WINDOW


def crystal_id(candidate: Row) -> str:
    """Return the id of the crystal of a candidate: that of its lowest-energy duplicate."""
    return candidate.get("duplicate_of") or candidate["candidate_id"]


def energy_order(candidate: Row) -> tuple[bool, float, float, str]:
    """Return a sort key: by energy above hull, stable ones by decomposition energy, None last."""
    energy = candidate.get("energy_above_hull")
    decomposition = candidate.get("decomposition_energy")
    return energy is None, energy or 0.0, decomposition or 0.0, candidate["candidate_id"]


def first_of_each_crystal(candidates: Iterable[R]) -> Iterator[R]:
    """Yield the first candidate of each crystal: the lowest, if sorted by :func:`energy_order`."""
    seen: set[str] = set()
    for candidate in candidates:
        name = crystal_id(candidate)
        if name not in seen:
            seen.add(name)
            yield candidate
