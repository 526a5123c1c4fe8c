"""Placeholder POTCARs compared with pymatgen's statistics of the real ones."""

from __future__ import annotations

import warnings

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, PotcarSingle, UnknownPotcarWarning
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.core.errors import UserError
from launchers.rehearsal.environment import stand_in
from launchers.rehearsal.potcar import write_placeholders

# Valence electrons of common potentials (VASP wiki).
VALENCES = {"O": 6, "Mg_pv": 8, "Mn_pv": 13, "Ca_sv": 10, "Ti_pv": 10, "W_pv": 12, "Xe": 8}


class TestPlaceholders:
    def test_are_parsed_by_pymatgen_with_the_right_valence(self, tmp_path):
        with stand_in(tmp_path, VALENCES, "PBE"):
            for symbol, valence in VALENCES.items():
                single = PotcarSingle.from_symbol_and_functional(symbol, "PBE")
                assert valence == single.ZVAL
                assert single.symbol == symbol
                assert single.element == symbol.partition("_")[0]
                assert single.functional == "PBE"
                assert single.potential_type == "PAW"
                assert "placeholder" in single.TITEL
                assert "placeholder" in single.COPYR

    @pytest.mark.parametrize("functional", ["PBE_52", "PBE_54", "PBE_64", "LDA"])
    def test_are_found_by_pymatgen(self, functional, tmp_path):
        write_placeholders(tmp_path, ["Mn_pv"], functional)
        assert (tmp_path / POTCAR_FUNCTIONAL_MAP[functional] / "POTCAR.Mn_pv").is_file()
        with stand_in(tmp_path, ["Mn_pv"], functional):
            single = PotcarSingle.from_symbol_and_functional("Mn_pv", functional)
        assert single.functional_class == functional[:3].replace("PBE", "GGA")

    def test_of_unknown_potentials_have_the_valence_of_the_element(self, tmp_path):
        with stand_in(tmp_path, ["Mn_mine"], "PBE"):
            assert PotcarSingle.from_symbol_and_functional("Mn_mine", "PBE").ZVAL == 7

    def test_cover_every_potential_of_a_materials_project_calculation(self, tmp_path):
        elements = ["Mg", "Fe", "Cu", "W", "La", "P"]
        structure = Structure(
            Lattice.cubic(9), elements, [[n / len(elements)] * 3 for n in range(len(elements))]
        )
        inputs = MPRelaxSet(structure, user_potcar_functional="PBE")
        symbols = inputs.potcar_symbols
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnknownPotcarWarning)
            with stand_in(tmp_path, symbols, "PBE"):
                assert inputs.get_input_set()["POTCAR"].symbols == symbols

    @pytest.mark.parametrize(
        ("symbol", "functional", "message"),
        [
            ("Mg", "PBE_99", "PBE_99"),
            ("Zz_pv", "PBE", "Zz_pv"),
        ],
    )
    def test_reject_unknown_names(self, tmp_path, symbol, functional, message):
        with pytest.raises(UserError, match=message):
            write_placeholders(tmp_path, [symbol], functional)
