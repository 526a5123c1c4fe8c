"""Candidates of rehearsals and computed ones never meet."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gan_htvs.bandgap import BandGapResult
from gan_htvs.candidate import Candidate, Stage, Step
from gan_htvs.store import CandidateStore

from .conftest import SETTINGS, references

REHEARSED = SETTINGS | {
    "engines": {"energy": {"name": "rehearsal"}, "band_gap": {"name": "rehearsal"}}
}


@pytest.fixture
def rehearsal(lab):
    lab.configure(REHEARSED)
    lab.job("references", Step.REFERENCES, references("rehearsal"))
    lab.propose("a")
    lab.gate("a", level_of_theory="rehearsal", gap_job="gap")
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method="rehearsal"))
    lab.build()
    return lab


def test_a_rehearsed_candidate_is_labelled_and_seen_only_where_it_is_asked_for(rehearsal):
    results = CandidateStore(rehearsal.candidates)
    assert results.rows() == list(results.query()) == []
    assert results.get("a") is None
    rehearsed = CandidateStore(rehearsal.candidates, rehearsal=True)
    (candidate,) = rehearsed.query()
    assert candidate.is_rehearsal
    assert (candidate.level_of_theory, candidate.band_gap_method) == ("rehearsal", "rehearsal")
    assert rehearsed.rows()[0]["level_of_theory"] == "rehearsal"


def test_computed_candidates_are_not_among_rehearsed_ones(lab):
    lab.propose("a")
    lab.gate("a")
    lab.build()
    assert CandidateStore(lab.candidates, rehearsal=True).rows() == []
    assert len(CandidateStore(lab.candidates).rows()) == 1


@pytest.mark.parametrize(
    ("settings", "level", "method"),
    [
        (SETTINGS, "CHGNet-0.3.0", "rehearsal"),
        (REHEARSED, "rehearsal", "HSE06 (VASP)"),
    ],
)
def test_a_candidate_of_both_kinds_fails_and_holds_no_numbers(lab, settings, level, method):
    lab.configure(settings)
    lab.job("references", Step.REFERENCES, references(level))
    lab.propose("a", "b")
    lab.gate("a", level_of_theory=level, gap_job="gap")
    lab.gate("b", level_of_theory=level)
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method=method))
    lab.build()
    store = CandidateStore(lab.candidates, rehearsal=settings is REHEARSED)
    mixed, other = store.get("a"), store.get("b")
    assert mixed.stage is Stage.FAILED
    assert f"holds a value of {method}" in mixed.reason
    assert (mixed.energy_above_hull, mixed.band_gap) == (None, None)
    assert other.energy_above_hull == pytest.approx(0)


def test_no_document_can_hold_both(rehearsal):
    document = CandidateStore(rehearsal.candidates, rehearsal=True).query()[0]
    with pytest.raises(ValidationError, match="is computed, and holds a value of rehearsal"):
        Candidate.model_validate(document.model_dump() | {"is_rehearsal": False})
