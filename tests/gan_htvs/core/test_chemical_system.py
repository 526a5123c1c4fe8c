from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_htvs.core.chemical_system import find_anions
from tests.helpers import MG_MN_O, OXIDATION_STATES


def test_published_caps_have_172_compositions():
    cells = list(MG_MN_O.compositions(OXIDATION_STATES))
    assert len(cells) == 172
    assert sum(sum(counts) <= 20 for counts in cells) == 135
    assert len(list(MG_MN_O.compositions(OXIDATION_STATES, max_atoms=22))) == 161


def test_rows_are_grouped_by_element():
    assert MG_MN_O.blocks == (slice(0, 8), slice(8, 16), slice(16, 28))
    assert MG_MN_O.max_atoms == 28
    assert MG_MN_O.chemsys == "Mg-Mn-O"


@given(st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12)))
def test_formula_and_counts_are_inverse(counts):
    assert MG_MN_O.counts(MG_MN_O.formula(counts)) == counts


@pytest.mark.parametrize(
    ("formula", "message"),
    [("Mg9MnO12", "9 Mg"), ("MgO", "0 Mn"), ("MgFeO2", "Fe"), ("Mg0.5MnO2", "fractional")],
)
def test_compositions_outside_the_system_are_refused(formula, message):
    with pytest.raises(ValueError, match=message):
        MG_MN_O.counts(formula)


def test_mn7_is_not_charge_balanced():
    permanganate_like = (2, 1, 8)
    assert not MG_MN_O.is_charge_balanced(permanganate_like, OXIDATION_STATES)
    assert MG_MN_O.is_charge_balanced((1, 2, 4), OXIDATION_STATES)


@pytest.mark.parametrize(
    ("elements", "anions"),
    [("Mn H C P Si O F S N I", "O F S N I"), ("Cd Te", "Te"), ("Mg Te O", "O"), ("Cu Zn", "")],
)
def test_anions_are_chalcogens_halogens_and_nitrogen(elements, anions):
    assert find_anions(elements.split()) == set(anions.split())


def test_oxidation_states_decide_between_sulfates_and_oxysulfides():
    states = {"La": (3, 3), "O": (-2, -2)}
    assert find_anions(["La", "S", "O"]) == {"S", "O"}
    assert find_anions(["La", "S", "O"], states | {"S": (6, 6)}) == {"O"}
    assert find_anions(["La", "S", "O"], states | {"S": (-2, -2)}) == {"S", "O"}
