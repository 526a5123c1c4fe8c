"""Placeholder POTCARs against what pymatgen knows of the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
from pymatgen.core import SETTINGS, Lattice, Structure
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, PotcarSingle, UnknownPotcarWarning
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.errors import UserError
from gan_htvs.rehearsal.potcar import placeholder_potcars, write_placeholders

# The electrons outside of the cores of well-known potentials (VASP wiki).
VALENCES = {"O": 6, "Mg_pv": 8, "Mn_pv": 13, "Ca_sv": 10, "Ti_pv": 10, "W_pv": 12, "Xe": 8}


class TestPlaceholders:
    def test_are_read_by_pymatgen_with_the_usual_valence(self):
        with placeholder_potcars(VALENCES, "PBE"):
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
    def test_lie_where_pymatgen_looks(self, functional, tmp_path):
        write_placeholders(tmp_path, ["Mn_pv"], functional)
        assert (tmp_path / POTCAR_FUNCTIONAL_MAP[functional] / "POTCAR.Mn_pv").is_file()
        with placeholder_potcars(["Mn_pv"], functional):
            single = PotcarSingle.from_symbol_and_functional("Mn_pv", functional)
        assert single.functional_class == functional[:3].replace("PBE", "GGA")

    def test_of_a_potential_that_pymatgen_does_not_know_have_the_outer_electrons(self):
        with placeholder_potcars(["Mn_mine"], "PBE"):
            assert PotcarSingle.from_symbol_and_functional("Mn_mine", "PBE").ZVAL == 7

    def test_cover_every_potential_of_a_materials_project_calculation(self):
        elements = ["Mg", "Fe", "Cu", "W", "La", "P"]
        structure = Structure(
            Lattice.cubic(9), elements, [[n / len(elements)] * 3 for n in range(len(elements))]
        )
        inputs = MPRelaxSet(structure, user_potcar_functional="PBE")
        symbols = inputs.potcar_symbols
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnknownPotcarWarning)
            with placeholder_potcars(symbols, "PBE"):
                assert inputs.get_input_set()["POTCAR"].symbols == symbols

    def test_setting_is_restored(self, monkeypatch):
        monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", "mine")
        with placeholder_potcars(["O"], "PBE") as folder:
            assert SETTINGS["PMG_VASP_PSP_DIR"] == str(folder)
        assert SETTINGS["PMG_VASP_PSP_DIR"] == "mine"
        assert not folder.exists()
        monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
        with placeholder_potcars(["O"], "PBE"):
            pass
        assert "PMG_VASP_PSP_DIR" not in SETTINGS

    def test_need_no_configuration_of_pymatgen(self, tmp_path):
        code = (
            "from pymatgen.core import Lattice, Structure\n"
            "from pymatgen.io.vasp.sets import MPRelaxSet\n"
            "from gan_htvs.rehearsal.potcar import placeholder_potcars\n"
            "s = Structure(Lattice.cubic(3), ['Mg', 'O'], [[0, 0, 0], [.5, .5, .5]])\n"
            "with placeholder_potcars(['Mg_pv', 'O'], 'PBE'):\n"
            "    MPRelaxSet(s, user_potcar_functional='PBE').write_input('.')\n"
        )
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("PMG_")
        } | {"HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
        assert (tmp_path / "POTCAR").read_text().count("End of Dataset") == 2

    @pytest.mark.parametrize(
        ("symbol", "functional", "message"),
        [("Mg", "PBE_99", "PBE_99.*choose from PBE,"), ("Zz_pv", "PBE", "Zz_pv.*element")],
    )
    def test_refuse_what_is_unknown(self, symbol, functional, message):
        with pytest.raises(UserError, match=message), placeholder_potcars([symbol], functional):
            pass
