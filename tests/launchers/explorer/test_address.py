from __future__ import annotations

import pytest
from dash import no_update

from gan_htvs.errors import UserError
from launchers.explorer.address import Question, bounds_of, range_of
from launchers.explorer.controls import SLIDERS, asked

ANY = [[each.low, each.high] for each in SLIDERS]


def test_an_address_says_what_it_reads():
    search = "?formula=MgO&stage=stable&stage=relaxed&band_gap=1.6..3.0&sort=-band_gap&page=3"
    question = Question.read(search)
    assert question.filters == {
        "formula": "MgO", "stage": ["stable", "relaxed"], "band_gap": "1.6..3.0",
    }  # fmt: skip
    assert (question.sort, question.page) == ("-band_gap", 3)
    assert question.write() == search
    assert Question.read(None).write() == Question.read("").write() == ""


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("?$where=1", "'\\$where' is no filter"),
        ("?band_gap[$gt]=1", "is no filter"),
        ("?band_gap=wide", "'wide' is no range"),
        ("?formula=.*", "is no formula"),
        ("?stage=best", "stage"),
        ("?cls=1", "'cls' is no filter"),
        ("?formula=Mg1e400", "is no formula"),
        ("?band_gap=nan..2", "band_gap"),
        ("?band_gap=..inf", "band_gap"),
        ("?page=" + "1" * 5000, "An address has at most 2000"),
        ("?page=" + "1" * 1900, "page"),
        ("?page=0", "page: '0' is no number"),
        ("?page=-1", "page"),
        ("?page=1e9", "page"),
        ("?spacegroup=231", "spacegroup"),
        ("?campaign=" + "x" * 300, "campaign"),
    ],
)
def test_what_is_no_value_is_refused_in_a_sentence(search, told):
    with pytest.raises(UserError, match=told):
        Question.read(search)


def test_the_ends_of_a_slider_are_no_bounds():
    assert bounds_of([0.0, 6.0], 0.0, 6.0) is None
    assert bounds_of([1.6, 6.0], 0.0, 6.0) == "1.6.."
    assert bounds_of([0.0, 3.0], 0.0, 6.0) == "..3"
    assert range_of({"band_gap": "1.6.."}, "band_gap", 0.0, 6.0) == [1.6, 6.0]
    assert range_of({"band_gap": "..9"}, "band_gap", 0.0, 6.0) == [0.0, 6.0]
    assert range_of({}, "band_gap", 0.0, 6.0) == [0.0, 6.0]


def test_controls_write_an_address_and_keep_what_has_no_control():
    asks = [None, " MgO ", "", ["stable"], None, *ANY, ["unique", "known_phases"]]
    search = asked(asks, "?spacegroup=225&sort=band_gap&page=4&formula=MnO")
    assert search == (
        "?spacegroup=225&formula=MgO&stage=stable&unique=true&known_phases=false&sort=band_gap"
    )
    assert asked([*asks[:-1], []], "?is_novel=false") == "?is_novel=false&formula=MgO&stage=stable"
    beyond = "?energy_above_hull=1..2"
    shown = [None, "MgO", "", [], None, [1, 0.5], *ANY[1:], []]
    assert asked(shown, beyond) == "?formula=MgO&energy_above_hull=1..2"
    nothing = [None, "", "", [], None, *ANY, []]
    assert asked(nothing, "?formula=MnO") == ""
    assert not isinstance(asked(nothing, ""), str), "the same address again"
    assert asked([None, "MgO", *nothing[2:]], "?band_gap=wide") == "?formula=MgO"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, ["a"]), (1, 5), (1, {"$ne": 1}), (3, "stable"), (3, [{"$ne": 1}]), (4, {"x": 1}),
        (5, None), (5, ["a", "b"]), (5, [1]), (8, ["zz"]), (8, "unique"), (8, None),
    ],
)  # fmt: skip
def test_what_is_no_value_of_a_control_asks_for_nothing(place, value):
    values = [None, "MgO", "", [], None, *ANY, []]
    values[place] = value
    assert asked(values, "") in ("?formula=MgO", *([] if place != 1 else [no_update]))
