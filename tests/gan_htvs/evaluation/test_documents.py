from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.evaluation.documents import PUBLISHED, Fate, Sample, Share


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe, Stat. Med. 1998, 17, 857, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_wilson(k, n, low, high):
    share = Share(k=k, n=n)
    assert share.value == k / n
    assert share.interval == pytest.approx((low, high), abs=5e-5)


def test_a_share_of_nothing_has_no_value():
    assert Share(k=0, n=0).value is None
    assert Share(k=0, n=0).interval is None


def test_published_shares_are_those_of_the_paper():
    percent = {(p.label, p.threshold): round(100 * p.stable.value, 1) for p in PUBLISHED}
    assert percent["11 known compositions", 0.2] == 11.2
    assert percent["20 new compositions", 0.2] == 12.6  # 12.55 in full
    by_threshold = {p.threshold: p.stable for p in PUBLISHED if p.label == "all 31"}
    for threshold, total in by_threshold.items():
        parts = [p.stable for p in PUBLISHED if p.threshold == threshold and p.stable.n < 9300]
        assert (sum(s.k for s in parts), sum(s.n for s in parts)) == (total.k, total.n)


def test_a_sample_reads_back_with_its_structure():
    crystal = Structure(Lattice.hexagonal(3.25, 5.2), ["Mg", "O"], [[1 / 3, 2 / 3, 0], [0, 0, 0.4]])
    sample = Sample(
        composition="MgO",
        index=3,
        max_displacement=0.1,
        novel_as_generated=True,
        fate=Fate.SOUND,
        structure=crystal,
        energy_above_hull=0.05,
        unique=True,
        novel=True,
    )
    text = sample.model_dump_json()
    again = Sample.model_validate_json(text)
    assert again.model_dump_json() == text
    assert again.structure.matches(crystal)
    assert again.is_sun(0.08)
    assert not again.is_sun(0.04)
