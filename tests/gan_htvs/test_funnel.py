from __future__ import annotations

from gan_htvs.campaign import Thresholds
from gan_htvs.funnel import KNOWN_PHASES, NEW, count_funnel, measure_funnel


def candidate(energy=None, pourbaix=None, gap=None, proposer="gan", **more):
    return {
        "origin": {"proposer": proposer},
        "energy_above_hull": energy,
        "pourbaix": None if pourbaix is None else {"minimum": pourbaix},
        "band_gap": gap,
        **more,
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


def test_published_and_measured_stand_side_by_side():
    new, known = {"is_novel": True}, {"is_novel": False}
    funnel = measure_funnel(
        [
            candidate(0.05, 0.3, 2.0, novelty=new),
            candidate(0.06, 0.3, 2.0, novelty=new, duplicate_of="the first"),
            candidate(0.15, novelty=known),
            candidate(),
            candidate(0.0, 0.1, 7.0, proposer="known_phase"),
        ],
        ["gan"],
        Thresholds(),
    )
    assert funnel.counts["gan"] == [4, 3, 3, 2, 2, 2, 2]
    assert funnel.counts[NEW] == [None, 1, 1, 1, 1, 1, 1]
    assert funnel.counts[KNOWN_PHASES] == [1, 1, 1, 1, 1, 1, 0]
    assert funnel.published == [9300, None, 1121, 148, None, None, 28]


def test_every_proposer_has_a_column_of_its_own_before_anything_is_proposed():
    funnel = measure_funnel([], ["gan", "random"], Thresholds())
    assert list(funnel.counts) == ["gan", "gan, new", "random", "random, new", KNOWN_PHASES]
