from __future__ import annotations

from itertools import count

import pytest

from gan_htvs.campaign.campaign_file import validate_campaign
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.funnel_stages import PUBLISHED_STAGES
from gan_htvs.results.funnel import (
    NEW,
    PUBLISHED_COLUMN,
    REFERENCE_PHASES,
    count_funnel,
    criteria,
    measure_funnel,
)

NUMBER = count()


def campaign(*elements, proposers=("gan",), prescreen=None, stages=None):
    elements = elements or ("Mg", "Mn", "O")
    return validate_campaign(
        {
            "name": "test",
            "chemical_system": {"caps": dict.fromkeys(elements, 2)},
            "oxidation_states": {e: [-2, -2] if e == "O" else [2, 4] for e in elements},
            "sampling": {"proposers": list(proposers)},
            "prescreen": prescreen,
            **({} if stages is None else {"stages": stages}),
        },
        "test",
    )


def candidate(energy=None, pourbaix=None, gap=None, proposer="gan", **more):
    """Return a candidate with a decomposition energy, eV/atom."""
    return {
        "candidate_id": str(next(NUMBER)),
        "stage": "relaxed",
        "origin": {"proposer": proposer},
        "energy_above_hull": None if energy is None else max(energy, 0.0),
        "decomposition_energy": energy,
        "reference_decomposition_energy": energy,
        "pourbaix": None if pourbaix is None else {"minimum": pourbaix},
        "band_gap": gap,
        **more,
    }


def test_criteria_accumulate():
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
        criteria(campaign()),
    )
    assert list(counts.values()) == [9, 8, 7, 6, 4, 3, 2, 1]


def test_incomplete_gap_counts_in_no_stage_but_in_the_caveat():
    gaps = [candidate(0.0, 0.3, 2.2), candidate(0.0, 0.3, incomplete_band_gap=2.2)]
    funnel = measure_funnel(gaps, campaign())
    assert funnel.counts["gan"][-2:] == [1, 1]
    assert funnel.n_incomplete_gaps == 1
    assert funnel.caveat.startswith("1 band gap is incomplete")
    assert measure_funnel(gaps[:1], campaign()).caveat is None


def test_accepted_incomplete_gap_is_counted_with_a_caveat():
    gaps = [candidate(0.0, 0.3, 2.2), candidate(0.0, 0.3, 2.2, incomplete_band_gap=2.2)]
    engines = EngineSettings.model_validate({"band_gap": {"accept_incomplete": True}})
    funnel = measure_funnel(gaps, campaign().model_copy(update={"engines": engines}))
    assert funnel.counts["gan"][-2:] == [2, 2]
    assert "accept_incomplete" in funnel.caveat


def test_hull_warning_lists_the_uncovered_subsystems_of_all_candidates():
    foreign = ["Na-O", "Na-V"]  # of a reference solid of aqueous ions
    missing = (["O-V"], [], foreign, ["Mg-O-V"])
    rows = [candidate(0.0, uncovered_subsystems=names) for names in missing]
    funnel = measure_funnel(rows, campaign("Mg", "V", "O"))
    assert funnel.uncovered_subsystems == ("O-V", "Mg-O-V")
    assert "O-V, Mg-O-V" in funnel.hull_warning
    assert measure_funnel([candidate(0.0)], campaign()).hull_warning is None


def implausible(energy=-0.3, *results):
    """Return a candidate with an implausible energy, which has only the energy from references."""
    fields = {"energy_above_hull": None, "decomposition_energy": None}
    return candidate(energy, *results, stage="rejected") | fields


def test_implausibly_low_energy_is_not_stable():
    counts = count_funnel([implausible(-0.3, 0.1, 2.0)], criteria(campaign()))
    assert list(counts.values()) == [1, 1, 0, 0, 0, 0, 0, 0]
    # Whether it is believed depends on the references.
    counts = count_funnel([candidate(-0.3, 0.1, 2.0)], criteria(campaign()))
    assert list(counts.values()) == [1] * 8


def test_implausible_energies_are_noted():
    prescreen = {"rejected_at": "hull window", "decomposition_energy": -0.4}
    rows = [
        implausible(),
        candidate(stage="rejected", prescreen=prescreen),
        candidate(stage="rejected", prescreen=prescreen | {"decomposition_energy": 0.4}),
        candidate(0.5, stage="rejected"),
        candidate(-0.05),
    ]
    funnel = measure_funnel(rows, campaign())
    assert funnel.n_implausible == 2
    assert "references.lowest_decomposition_energy" in funnel.implausible_warning
    assert measure_funnel(rows[2:], campaign()).implausible_warning is None


def test_gap_of_unstable_candidate_is_not_counted():
    counts = count_funnel([candidate(0.3, 0.1, 2.0)], criteria(campaign()))
    assert counts["band_gap_computed (any band gap)"] == 0


def test_published_and_measured_counts():
    new, known = {"is_novel": True}, {"is_novel": False}
    funnel = measure_funnel(
        [
            candidate(0.05, 0.3, 2.0, novelty=new, candidate_id="first"),
            candidate(0.06, 0.3, 2.0, novelty=new, duplicate_of="first"),
            candidate(0.15, novelty=known),
            candidate(0.15, novelty={"is_novel": None}),
            candidate(),
            candidate(0.0, 0.1, 7.0, proposer="reference_phase"),
        ],
        campaign(),
        n_training=1075,
        n_reference_phases=25,
    )
    assert funnel.counts["gan"] == [5, 4, 4, 2, 2, 2, 2, 2]
    assert funnel.counts[NEW] == [None, 1, 1, 1, 1, 1, 1, 1]
    assert funnel.counts[REFERENCE_PHASES] == [None, 1, 1, 1, 1, 1, 1, 0]
    assert funnel.published == [9300, None, 1121, 148, None, None, None, 28]
    assert ("training structures", 1075, 1240) in funnel.setting
    assert ("reference phases", 25, None) in funnel.setting


def test_structures_rejected_in_the_prescreen_count_in_no_later_stage():
    rejected, survived = {"rejected_at": "hull window"}, {"rejected_at": None}
    new = {"is_novel": True}
    funnel = measure_funnel(
        [
            candidate(),
            candidate(prescreen=rejected),
            candidate(prescreen=survived),  # its own engine failed
            candidate(0.05, prescreen=survived, novelty=new),
            candidate(0.3),  # evaluated before there was a prescreen
            candidate(0.0, proposer="reference_phase"),
        ],
        campaign(prescreen={}),
    )
    assert funnel.stages[:3] == ["generated", "survived the prescreen", "relaxed"]
    assert funnel.counts["gan"][:5] == [5, 3, 2, 1, 1]
    assert funnel.counts[NEW][:5] == [None, None, 1, 1, 1]
    assert funnel.counts[REFERENCE_PHASES][:4] == [None, None, 1, 1]
    assert funnel.published[:4] == [9300, None, None, 1121]


def test_crystal_counts_once_for_each_proposer_that_found_it():
    new = {"is_novel": True}
    funnel = measure_funnel(
        [
            candidate(0.05, novelty=new, candidate_id="of another campaign too"),
            candidate(0.05, novelty=new, duplicate_of="lower, elsewhere"),
            candidate(0.05, novelty=new, duplicate_of="lower, elsewhere"),
            candidate(0.06, novelty=new, duplicate_of="lower, elsewhere", proposer="random"),
        ],
        campaign(proposers=["gan", "random"]),
    )
    assert funnel.counts["gan, new"][1:4] == [2, 2, 2]
    assert funnel.counts["random, new"][1:4] == [1, 1, 1]


def test_published_counts_need_equal_stages():
    first, *others = [stage.model_dump() for stage in PUBLISHED_STAGES]
    assert measure_funnel([], campaign(stages=[first])).published == [9300, None, 1121]
    changed = measure_funnel([], campaign(stages=[first | {"max": 0.1}, *others])).published
    assert changed == [9300, *[None] * 7]


@pytest.mark.parametrize("elements", [("Ca", "Mn", "O"), ("Mg", "O"), ("Mn", "O")])
def test_only_mg_mn_o_has_the_published_column(elements):
    counts = [PUBLISHED_COLUMN in measure_funnel([], campaign()).columns]
    funnel = measure_funnel([], campaign(*elements))
    assert [*counts, PUBLISHED_COLUMN in funnel.columns] == [True, False]
    assert funnel.published is None
    assert {len(values) for _, values in funnel.setting_rows} == {len(funnel.columns)}
    assert {published for _, _, published in funnel.setting} == {None}


def test_each_proposer_has_columns_without_candidates():
    funnel = measure_funnel([], campaign(proposers=["gan", "random"]))
    assert list(funnel.counts) == ["gan", "gan, new", "random", "random, new", REFERENCE_PHASES]


def test_candidates_without_symmetry_are_counted_by_proposer():
    def of_groups(generated, relaxed, tight, **more):
        names = ("generated_symmetry", "symmetry", "tight_symmetry")
        groups = zip(names, (generated, relaxed, tight), strict=True)
        return candidate(0.1, **{name: {"number": n} for name, n in groups}, **more)

    rows = [
        of_groups(1, 1, 1),
        of_groups(1, 12, 1),
        of_groups(1, 12, 12),
        of_groups(2, 2, 2, proposer="random"),
        of_groups(225, 225, 225, proposer="reference_phase"),
        candidate(generated_symmetry={"number": 1}, symmetry={"number": 1}),  # not relaxed
    ]
    both = measure_funnel(rows, campaign(proposers=("gan", "random")))
    assert both.p1 == {"gan": (3, 3, 1, 2), "random": (1, 0, 0, 0)}
    assert "gan: 3 of 3 as proposed, 1 of 3 relaxed (2 at 0.01 A); random: 0 of 1" in both.p1_note
    assert measure_funnel(rows[-1:], campaign()).p1_note is None
