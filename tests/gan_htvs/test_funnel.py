from __future__ import annotations

from gan_htvs.campaign import Thresholds
from gan_htvs.funnel import count_funnel


def candidate(energy=None, pourbaix=None, gap=None):
    return {
        "energy_above_hull": energy,
        "pourbaix": None if pourbaix is None else {"minimum": pourbaix},
        "band_gap": gap,
    }


def test_each_row_counts_those_that_pass_everything_above_it():
    counts = count_funnel(
        [
            candidate(),
            candidate(0.5),
            candidate(0.15),
            candidate(0.05),
            candidate(0.05, 0.9),
            candidate(-0.01, 0.7, 2.0),
            candidate(0.0, 0.3),
            candidate(0.0, 0.3, 0.4),
            candidate(0.0, 0.3, 2.2),
        ],
        Thresholds(),
    )
    assert list(counts.values()) == [9, 8, 7, 6, 4, 3, 1]


def test_a_hole_of_the_potential_is_not_stable():
    counts = count_funnel([candidate(-0.3, 0.1, 2.0)], Thresholds())
    assert list(counts.values()) == [1, 1, 0, 0, 0, 0, 0]


def test_a_gap_does_not_make_up_for_instability():
    counts = count_funnel([candidate(0.3, 0.1, 2.0)], Thresholds())
    assert counts["band gap computed"] == 0
