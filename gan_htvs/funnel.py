"""The funnel as counts: how many structures reached each stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_htvs.assessment import Judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gan_htvs.campaign import Thresholds

CANDIDATE_FIELDS = (
    "stage",
    "origin.proposer",
    "energy_above_hull",
    "pourbaix.minimum",
    "band_gap",
)
"""What a candidate document must carry to be counted."""


def count_funnel(candidates: Iterable[Mapping[str, Any]], thresholds: Thresholds) -> dict[str, int]:
    """Count how many candidates pass each criterion, in the order of the funnel.

    Criteria accumulate: whoever is counted in one row is counted in all rows above.
    Thresholds are in eV/atom and eV.
    """
    low, high = thresholds.band_gap
    criteria = {
        "generated": bool,
        "relaxed": lambda c: c.get("energy_above_hull") is not None,
        f"metastable (<= {thresholds.metastable:g} eV/atom above hull)": lambda c: (
            Judge.believes(c["energy_above_hull"])
            and c["energy_above_hull"] <= thresholds.metastable
        ),
        f"synthesizable (<= {thresholds.synthesizable:g} eV/atom)": lambda c: (
            c["energy_above_hull"] <= thresholds.synthesizable
        ),
        f"Pourbaix minimum <= {thresholds.pourbaix_screen:g} eV/atom": lambda c: (
            c.get("pourbaix") is not None and c["pourbaix"]["minimum"] <= thresholds.pourbaix_screen
        ),
        "band gap computed": lambda c: c.get("band_gap") is not None,
        f"photoanode (Pourbaix <= {thresholds.pourbaix:g}, gap {low:g}-{high:g} eV)": lambda c: (
            c["pourbaix"]["minimum"] <= thresholds.pourbaix and low <= c["band_gap"] <= high
        ),
    }
    counts = dict.fromkeys(criteria, 0)
    for candidate in candidates:
        for name, passes in criteria.items():
            if not passes(candidate):
                break
            counts[name] += 1
    return counts
