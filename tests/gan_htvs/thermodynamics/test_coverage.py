from __future__ import annotations

import pytest
import yaml
from pymatgen.core import Element

from gan_htvs.core.document import decode, encode
from gan_htvs.thermodynamics.coverage import (
    SYSTEMS_WITHOUT_COMPOUNDS,
    all_uncovered,
    incomplete_hull_warning,
    uncovered_subsystems,
)
from gan_htvs.thermodynamics.hull import ReferenceSet
from gan_htvs.thermodynamics.references import _shipped_phases
from tests.helpers import references

VANADATES = {"Mg": 0.0, "V": 0.0, "O2": 0.0, "MgO": -3.0, "V2O5": -2.2}
"""Formation energies without a ternary phase, eV/atom."""


def test_systems_without_compounds_have_sorted_elements():
    for system in yaml.safe_load(SYSTEMS_WITHOUT_COMPOUNDS.read_text(encoding="utf-8")):
        symbols = system.split("-")
        assert symbols == sorted(symbols)
        assert all(map(Element.is_valid_symbol, symbols))


def test_no_shipped_phase_is_in_a_system_without_compounds():
    without = yaml.safe_load(SYSTEMS_WITHOUT_COMPOUNDS.read_text(encoding="utf-8"))
    assert not {phase.structure.chemical_system for phase in _shipped_phases()} & set(without)


def test_fewest_elements_first():
    missing = uncovered_subsystems(["Ca", "Mg", "Al", "O"], ["Ca-O", "Al-O"])
    assert missing[:4] == ["Al-Ca", "Al-Mg", "Ca-Mg", "Mg-O"]
    assert missing[-1] == "Al-Ca-Mg-O"
    assert not {"Ca-O", "Al-O"} & set(missing)


def test_system_without_compounds_is_covered():
    assert uncovered_subsystems(["V", "Mg"], []) == []


class TestReferenceSet:
    def test_system_without_ternary_phases(self):
        assert references("test", VANADATES).uncovered_subsystems == ("Mg-O-V",)

    def test_complete_system(self):
        complete = references("test", VANADATES | {"MgV2O6": -2.5})
        assert complete.uncovered_subsystems == ()

    def test_round_trip(self):
        incomplete = references("test", VANADATES)
        stored = encode(incomplete)
        assert stored["uncovered_subsystems"] == ["Mg-O-V"]
        assert ReferenceSet.model_validate(decode(stored)) == incomplete

    @pytest.mark.parametrize(
        ("formula", "missing"), [("MgV2O6", ["Mg-O-V"]), ("V2O5", []), ("MgO", [])]
    )
    def test_only_candidates_of_the_uncovered_system_are_affected(self, formula, missing):
        assert references("test", VANADATES).uncovered(formula) == missing


def test_union_over_candidates():
    rows = [{"uncovered_subsystems": ["A-B-C", "B-C"]}, {"uncovered_subsystems": None}, {}]
    assert all_uncovered(rows) == ["B-C", "A-B-C"]


def test_warning_names_the_subsystems():
    assert incomplete_hull_warning([]) is None
    assert "Mg-O-V" in incomplete_hull_warning(["Mg-O-V"])


def test_many_elements_have_few_subsystems():
    elements = [Element.from_Z(z).symbol for z in range(1, 26)]
    assert len(uncovered_subsystems(elements, [])) < 70_000
