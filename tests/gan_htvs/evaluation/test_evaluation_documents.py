from __future__ import annotations

from pymatgen.core import Lattice, Structure

from gan_htvs.evaluation.evaluation_documents import PUBLISHED, Outcome, Sample


def test_published_shares_equal_those_of_the_paper():
    percent = {(p.label, p.threshold): round(100 * p.stable.value, 1) for p in PUBLISHED}
    assert percent["11 known compositions", 0.2] == 11.2
    assert percent["20 new compositions", 0.2] == 12.6  # 12.55 in full
    by_threshold = {p.threshold: p.stable for p in PUBLISHED if p.label == "all 31"}
    for threshold, total in by_threshold.items():
        parts = [p.stable for p in PUBLISHED if p.threshold == threshold and p.stable.n < 9300]
        assert (sum(s.k for s in parts), sum(s.n for s in parts)) == (total.k, total.n)


def test_sample_round_trip_with_structure():
    crystal = Structure(Lattice.hexagonal(3.25, 5.2), ["Mg", "O"], [[1 / 3, 2 / 3, 0], [0, 0, 0.4]])
    sample = Sample(
        composition="MgO",
        index=3,
        max_displacement=0.1,
        novel_as_generated=True,
        outcome=Outcome.SOUND,
        structure=crystal,
        decomposition_energy=0.05,
        unique=True,
        novel=True,
    )
    text = sample.model_dump_json()
    again = Sample.model_validate_json(text)
    assert again.model_dump_json() == text
    assert again.structure.matches(crystal)
    assert again.is_sun(0.08)
    assert not again.is_sun(0.04)
