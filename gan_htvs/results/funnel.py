"""The funnel as counts: how many structures reached each stage, here and in the published study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gan_htvs.campaign.model import Thresholds
from gan_htvs.core.stages import REFERENCE_PHASE
from gan_htvs.thermodynamics.plausibility import is_plausible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gan_htvs.campaign.model import Campaign

CANDIDATE_FIELDS = (
    *("candidate_id", "stage", "origin.proposer", "energy_above_hull", "pourbaix.minimum"),
    *(
        "band_gap",
        "incomplete_band_gap",
        "novelty.is_novel",
        "duplicate_of",
        "prescreen.rejected_at",
    ),
)
"""What a candidate document must carry to be counted."""

PUBLISHED_SOURCE = "Mg-Mn-O, Kim et al. 2020 (DFT)"
"""ACS Cent. Sci. 2020, 6, 1412: energies and gaps from DFT."""
PUBLISHED_ELEMENTS = {"Mg", "Mn", "O"}
PUBLISHED_GENERATED, PUBLISHED_METASTABLE, PUBLISHED_SYNTHESIZABLE = 9300, 1121, 148
PUBLISHED_PHOTOANODES = 28
"""Structures that it counts."""
PUBLISHED_LIMITS = Thresholds()
"""Its thresholds are the defaults."""

NEW = "new crystals"
"""Column of those that are neither a duplicate nor known: novel to the generator and to the
reference phases, each crystal counted once."""

REFERENCE_PHASES = "reference phases"
GENERATED, SURVIVED, RELAXED = "generated", "survived the prescreen", "relaxed"
"""First rows; the second one only where a campaign has a prescreen."""

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)


class Criterion(NamedTuple):
    """One stage: its name, how many published structures pass, and who passes here."""

    name: str
    published: int | None
    passes: Callable[[Row], bool]


@dataclass(frozen=True)
class Funnel:
    """Counts by stage.

    Attributes
    ----------
    stages
        Names, from the top.
    counts
        Column -> a count for each stage: what was proposed, :data:`NEW` among it, reference phases.
        None where the column makes no sense.
    published
        The published study's; None where it gives no number, or one for another threshold or
        chemical system.
    setting
        What the search started from: name, here, published.
    n_incomplete_gaps
        Candidates with a gap from which magnetic orders are missing; no stage counts it.
    """

    stages: list[str]
    counts: dict[str, list[int | None]]
    published: list[int | None]
    setting: list[tuple[str, int | None, int | None]]
    n_incomplete_gaps: int = 0

    @property
    def caveat(self) -> str | None:
        """What the counts leave out; None: nothing."""
        if not (n := self.n_incomplete_gaps):
            return None
        gaps = "1 band gap is" if n == 1 else f"{n:,} band gaps are"
        return f"{gaps} incomplete (magnetic orders are missing) and counted in no stage."


def criteria(thresholds: Thresholds, *, prescreens: bool = False) -> list[Criterion]:
    """List the stages; each holds the criteria of all above. Thresholds are in eV/atom and eV."""
    low, high = thresholds.band_gap
    theirs = PUBLISHED_LIMITS

    def is_stable(candidate: Row, limit: float) -> bool:
        energy = candidate["energy_above_hull"]
        return is_plausible(energy) and energy <= limit

    def is_stable_in_water(candidate: Row, limit: float) -> bool:
        return bool(candidate.get("pourbaix")) and candidate["pourbaix"]["minimum"] <= limit

    stages = [
        Criterion(GENERATED, PUBLISHED_GENERATED, bool),
        Criterion(SURVIVED, None, _survived),
        Criterion(RELAXED, None, lambda c: c.get("energy_above_hull") is not None),
        Criterion(
            f"metastable (<= {thresholds.metastable:g} eV/atom above hull)",
            PUBLISHED_METASTABLE if thresholds.metastable == theirs.metastable else None,
            lambda c: is_stable(c, thresholds.metastable),
        ),
        Criterion(
            f"synthesizable (<= {thresholds.synthesizable:g} eV/atom)",
            PUBLISHED_SYNTHESIZABLE if thresholds.synthesizable == theirs.synthesizable else None,
            lambda c: is_stable(c, thresholds.synthesizable),
        ),
        Criterion(
            f"Pourbaix minimum <= {thresholds.pourbaix_screen:g} eV/atom",
            None,
            lambda c: is_stable_in_water(c, thresholds.pourbaix_screen),
        ),
        Criterion("band gap computed", None, lambda c: c.get("band_gap") is not None),
        Criterion(
            f"photoanode (Pourbaix <= {thresholds.pourbaix:g}, gap {low:g}-{high:g} eV)",
            PUBLISHED_PHOTOANODES if thresholds == theirs else None,
            lambda c: is_stable_in_water(c, thresholds.pourbaix) and low <= c["band_gap"] <= high,
        ),
    ]
    return [stage for stage in stages if prescreens or stage.name != SURVIVED]


def _survived(candidate: Row) -> bool:
    """Whether a candidate was sent on, or was evaluated without a prescreen."""
    prescreen = candidate.get("prescreen")
    if prescreen is None:
        return candidate.get("energy_above_hull") is not None
    return prescreen.get("rejected_at") is None


def count_funnel(
    candidates: Iterable[Row],
    thresholds: Thresholds,
    *,
    prescreens: bool = False,
    name: Callable[[Row], str] = itemgetter("candidate_id"),
) -> dict[str, int]:
    """Count how many candidates pass each criterion, in the order of the funnel.

    Criteria accumulate: whoever is counted in one row is counted in all rows above. Candidates
    of one ``name`` count once.
    """
    stages = criteria(thresholds, prescreens=prescreens)
    passed: dict[str, set[str]] = {stage.name: set() for stage in stages}
    for candidate in candidates:
        for stage in stages:
            if not stage.passes(candidate):
                break
            passed[stage.name].add(name(candidate))
    return {stage: len(names) for stage, names in passed.items()}


def measure_funnel(
    candidates: Iterable[Row], campaign: Campaign, n_training: int | None = None
) -> Funnel:
    """Count the candidates of a campaign, proposer by proposer, reference phases last.

    ``n_training`` is the number of structures that its generator learned from, if that is known.
    """
    system = campaign.chemical_system
    prescreens = campaign.prescreen is not None
    count = partial(count_funnel, thresholds=campaign.thresholds, prescreens=prescreens)
    stages = criteria(campaign.thresholds, prescreens=prescreens)
    names = [stage.name for stage in stages]
    groups: dict[str, list[Row]] = {str(name): [] for name in campaign.sampling.proposers}
    n_incomplete_gaps = 0
    for candidate in candidates:
        groups.setdefault(candidate["origin"]["proposer"], []).append(candidate)
        n_incomplete_gaps += candidate.get("incomplete_band_gap") is not None
    known = groups.pop(REFERENCE_PHASE, [])
    counts: dict[str, list[int | None]] = {}
    for name, group in groups.items():
        new = count(filter(is_novel, group), name=crystal)
        counts[name] = list(count(group).values())
        # Whether it is new is known of a structure that was relaxed.
        column = NEW if len(groups) == 1 else f"{name}, new"
        counts[column] = [None if what in (GENERATED, SURVIVED) else new[what] for what in names]
    phases = count(known)
    counts[REFERENCE_PHASES] = [None if what == SURVIVED else phases[what] for what in names]
    same_system = set(system.elements) == PUBLISHED_ELEMENTS
    allowed = len(list(system.compositions(campaign.oxidation_states, campaign.max_atoms)))
    setting = [
        ("training structures", n_training, 1240),
        ("charge-balanced compositions", allowed, 133),
        ("compositions searched", len(campaign.target_counts), 31),
    ]
    return Funnel(
        names,
        counts,
        [stage.published if same_system else None for stage in stages],
        [(name, here, there if same_system else None) for name, here, there in setting],
        n_incomplete_gaps,
    )


def is_novel(candidate: Row) -> bool:
    """Whether nobody knew a candidate: no training structure and no reference phase."""
    return bool((candidate.get("novelty") or {}).get("is_novel"))


def crystal(candidate: Row) -> str:
    """Name of the crystal that a candidate is: the id of the one that stands for it."""
    return candidate.get("duplicate_of") or candidate["candidate_id"]


def energy_order(candidate: Row) -> tuple[int, float, str]:
    """Sort candidates by energy above the hull; holes of a potential, then who has none, last."""
    energy, name = candidate.get("energy_above_hull"), candidate["candidate_id"]
    if energy is None:
        return 2, 0.0, name
    return (0, energy, name) if is_plausible(energy) else (1, 0.0, name)


def first_of_each_crystal(candidates: Iterable[R]) -> Iterator[R]:
    """Leave out who is the same crystal as one before; :func:`energy_order` leaves the lowest."""
    seen: set[str] = set()
    for candidate in candidates:
        name = crystal(candidate)
        if name not in seen:
            seen.add(name)
            yield candidate
