from __future__ import annotations

import pytest

from gan_htvs.core.errors import UserError
from launchers.results.explorer.address import Question
from launchers.results.explorer.controls import CONTROLS, SLIDERS, changed, values_of


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
    slider = SLIDERS["band_gap"]
    assert slider.text([0.0, 6.0]) == ""
    assert slider.text([1.6, 6.0]) == "1.6.."
    assert slider.text([0.0, 3.0]) == "..3"
    assert slider.handles((1.6, None)) == [1.6, 6.0]
    assert slider.handles((None, 9.0)) == [0.0, 6.0]
    assert slider.handles(None) == [0.0, 6.0]


@pytest.mark.parametrize(
    ("before", "name", "value", "after"),
    [
        ("?spacegroup=225&sort=band_gap&page=4&formula=MnO", "formula", " MgO ",
         "?spacegroup=225&formula=MgO&sort=band_gap"),
        ("?formula=MnO", "formula", "", ""),
        ("?formula=MnO", "stage", ["stable"], "?formula=MnO&stage=stable"),
        ("?energy_above_hull=1..2", "band_gap", [1.6, 6.0],
         "?energy_above_hull=1..2&band_gap=1.6.."),
        ("?band_gap=1..2&campaign=a", "band_gap", [0.0, 6.0], "?campaign=a"),
        ("?campaign=a", "campaign", None, ""),
        ("", "only", ["unique", "reference_phases"], "?unique=true&reference_phases=false"),
        ("?is_novel=false&unique=true", "only", [], "?is_novel=false"),
        ("?band_gap=wide", "formula", "MgO", "?formula=MgO"),
    ],
)  # fmt: skip
def test_a_control_changes_its_filter_and_no_other(before, name, value, after):
    assert changed(Question.read_or_all(before), name, value).write() == after


@pytest.mark.parametrize(
    "search", ["", "?formula=MgO&stage=stable&stage=relaxed&band_gap=1..9&unique=true&is_novel=no"]
)
def test_controls_show_what_an_address_says(search):
    values = values_of(Question.read(search))
    assert tuple(values) == CONTROLS
    if search:
        assert values["formula"] == "MgO"
        assert values["stage"] == ["stable", "relaxed"]
        assert values["band_gap"] == [1, 6]
        assert values["only"] == ["unique"]
    else:
        assert values["band_gap"] == [0, 6]
