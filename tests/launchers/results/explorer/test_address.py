from __future__ import annotations

import pytest

from gan_htvs.core.errors import UserError
from launchers.results.explorer.address import SearchQuery
from launchers.results.explorer.controls import CONTROLS, SLIDERS, changed, values_of


def test_query_round_trip():
    search = "?formula=MgO&stage=stable&stage=relaxed&band_gap=1.6..3.0&sort=-band_gap&page=3"
    query = SearchQuery.read(search)
    assert query.filters == {
        "formula": "MgO", "stage": ["stable", "relaxed"], "band_gap": "1.6..3.0",
    }  # fmt: skip
    assert (query.sort, query.page) == ("-band_gap", 3)
    assert query.write() == search
    assert SearchQuery.read(None).write() == SearchQuery.read("").write() == ""


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("?$where=1", "'\\$where' is not a filter"),
        ("?band_gap[$gt]=1", "is not a filter"),
        ("?band_gap=wide", "^band_gap: 'wide'"),
        ("?formula=.*", "^formula: "),
        ("?cls=1", "'cls' is not a filter"),
        ("?formula=Mg1e400", "^formula: "),
        ("?band_gap=nan..2", "band_gap"),
        ("?band_gap=..inf", "band_gap"),
        ("?page=" + "1" * 5000, "2000"),
        ("?page=" + "1" * 1900, "page"),
        ("?page=0", "^page: '0'"),
        ("?page=-1", "page"),
        ("?page=1e9", "page"),
        ("?spacegroup=231", "spacegroup"),
        ("?campaign=" + "x" * 300, "campaign"),
    ],
)
def test_invalid_query_is_a_user_error(search, message):
    with pytest.raises(UserError, match=message):
        SearchQuery.read(search)


def test_ends_of_a_slider_set_no_bounds():
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
def test_control_changes_only_its_filter(before, name, value, after):
    assert changed(SearchQuery.read_or_all(before), name, value).write() == after


@pytest.mark.parametrize(
    "search", ["", "?formula=MgO&stage=stable&stage=relaxed&band_gap=1..9&unique=true&is_novel=no"]
)
def test_controls_show_the_query(search):
    values = values_of(SearchQuery.read(search))
    assert tuple(values) == CONTROLS
    if search:
        assert values["formula"] == "MgO"
        assert values["stage"] == ["stable", "relaxed"]
        assert values["band_gap"] == [1, 6]
        assert values["only"] == ["unique"]
    else:
        assert values["band_gap"] == [0, 6]
