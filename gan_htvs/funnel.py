"""The funnel as counts: how many structures reached each stage, here and in the published study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.assessment import Judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gan_htvs.campaign import Thresholds

CANDIDATE_FIELDS = (
    *("stage", "origin.proposer", "energy_above_hull", "pourbaix.minimum", "band_gap"),
    *("novelty.is_novel", "duplicate_of"),
)
"""What a candidate document must carry to be counted."""

PUBLISHED_SOURCE = "Kim et al. 2020 (DFT)"
"""ACS Cent. Sci. 2020, 6, 1412: Mg-Mn-O, energies and gaps from DFT."""

NEW = "new crystals"
"""Column of those that are neither a duplicate nor known: novel to the generator and to the
reference phases, each counted once."""

KNOWN_PHASES = "known phases"


class Criterion(NamedTuple):
    """One stage: its name, how many published structures pass, and who passes here."""

    name: str
    published: int | None
    passes: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Funnel:
    """Counts by stage.

    Attributes
    ----------
    stages
        Names, from the top.
    counts
        Column -> a count for each stage: what was proposed, :data:`NEW` among it, known phases.
        None where the column makes no sense.
    published
        The published study's, None where it gives no number.
    """

    stages: list[str]
    counts: dict[str, list[int | None]]
    published: list[int | None]


def criteria(thresholds: Thresholds) -> list[Criterion]:
    """List the stages; each holds the criteria of all above. Thresholds are in eV/atom and eV."""
    low, high = thresholds.band_gap
    return [
        Criterion("generated", 9300, bool),
        Criterion("relaxed", None, lambda c: c.get("energy_above_hull") is not None),
        Criterion(
            f"metastable (<= {thresholds.metastable:g} eV/atom above hull)",
            1121,
            lambda c: (
                Judge.believes(c["energy_above_hull"])
                and c["energy_above_hull"] <= thresholds.metastable
            ),
        ),
        Criterion(
            f"synthesizable (<= {thresholds.synthesizable:g} eV/atom)",
            148,
            lambda c: c["energy_above_hull"] <= thresholds.synthesizable,
        ),
        Criterion(
            f"Pourbaix minimum <= {thresholds.pourbaix_screen:g} eV/atom",
            None,
            lambda c: (
                c.get("pourbaix") is not None
                and c["pourbaix"]["minimum"] <= thresholds.pourbaix_screen
            ),
        ),
        Criterion("band gap computed", None, lambda c: c.get("band_gap") is not None),
        Criterion(
            f"photoanode (Pourbaix <= {thresholds.pourbaix:g}, gap {low:g}-{high:g} eV)",
            28,
            lambda c: (
                c["pourbaix"]["minimum"] <= thresholds.pourbaix and low <= c["band_gap"] <= high
            ),
        ),
    ]


def count_funnel(candidates: Iterable[Mapping[str, Any]], thresholds: Thresholds) -> dict[str, int]:
    """Count how many candidates pass each criterion, in the order of the funnel.

    Criteria accumulate: whoever is counted in one row is counted in all rows above.
    """
    stages = criteria(thresholds)
    counts = {stage.name: 0 for stage in stages}
    for candidate in candidates:
        for stage in stages:
            if not stage.passes(candidate):
                break
            counts[stage.name] += 1
    return counts


def measure_funnel(
    candidates: Iterable[Mapping[str, Any]], proposers: Sequence[str], thresholds: Thresholds
) -> Funnel:
    """Count the candidates of a campaign, proposer by proposer, known phases last."""
    groups: dict[str, list[Mapping[str, Any]]] = {name: [] for name in proposers}
    for candidate in candidates:
        groups.setdefault(candidate["origin"]["proposer"], []).append(candidate)
    known = groups.pop("known_phase", [])
    counts: dict[str, list[int | None]] = {}
    for name, group in groups.items():
        new = list(count_funnel(filter(is_new, group), thresholds).values())
        counts[name] = list(count_funnel(group, thresholds).values())
        # Whether it is new is known of a structure that was relaxed.
        counts[NEW if len(groups) == 1 else f"{name}, new"] = [None, *new[1:]]
    counts[KNOWN_PHASES] = list(count_funnel(known, thresholds).values())
    stages = criteria(thresholds)
    return Funnel([s.name for s in stages], counts, [s.published for s in stages])


def is_new(candidate: Mapping[str, Any]) -> bool:
    """Whether a candidate is a crystal that nobody knew, counted once."""
    novelty = candidate.get("novelty") or {}
    return bool(novelty.get("is_novel")) and candidate.get("duplicate_of") is None
