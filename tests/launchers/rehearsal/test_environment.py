"""Environment of processes during a rehearsal, its restoration, and placeholder POTCARs."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
from pymatgen.core import SETTINGS, Lattice, Structure
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, PotcarSingle, UnknownPotcarWarning
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.core.errors import UserError
from launchers.rehearsal.environment import COMMAND, stand_in, write_placeholders
from launchers.rehearsal.failure_modes import FAIL_VARIABLE
from launchers.rehearsal.labels import PROGRAM

# Valence electrons of common potentials (VASP wiki).
VALENCES = {"O": 6, "Mg_pv": 8, "Mn_pv": 13, "Ca_sv": 10, "Ti_pv": 10, "W_pv": 12, "Xe": 8}

FOLDER = "PMG_VASP_PSP_DIR"
PRINT_SETTINGS = """
import os
from atomate2 import SETTINGS as atomate2
from pymatgen.core import SETTINGS as pymatgen
for value in (atomate2.VASP_CMD, atomate2.VASP_GAMMA_CMD, pymatgen["PMG_VASP_PSP_DIR"]):
    print(value)
print(os.environ["GAN_HTVS_VASP_PROGRAM"])
"""


def test_stand_in_overrides_settings_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "atomate2.yaml").write_text("VASP_CMD: srun vasp_std\n")
    (tmp_path / "pmgrc.yaml").write_text(f"{FOLDER}: /licensed\n")
    monkeypatch.setenv("ATOMATE2_CONFIG_FILE", str(tmp_path / "atomate2.yaml"))
    monkeypatch.setenv("PMG_CONFIG_FILE", str(tmp_path / "pmgrc.yaml"))
    with stand_in(tmp_path / "potcars", ["O"], "PBE"):
        run = [sys.executable, "-c", PRINT_SETTINGS]
        printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [COMMAND, COMMAND, str(tmp_path / "potcars"), PROGRAM]


def test_environment_and_settings_are_restored(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, FOLDER, "mine")
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "srun vasp_std")
    before, settings = dict(os.environ), dict(SETTINGS)
    with stand_in(tmp_path, ["O"], "PBE", "killed=0.25"):
        assert SETTINGS[FOLDER] == os.environ[FOLDER] == str(tmp_path)
        assert os.environ["ATOMATE2_VASP_CMD"] == COMMAND
        assert os.environ[FAIL_VARIABLE] == "killed=0.25"
    assert (dict(os.environ), dict(SETTINGS)) == (before, settings)


def test_failures_of_the_environment_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv(FAIL_VARIABLE, "hang=0.5")
    with stand_in(tmp_path, ["O"], "PBE"):
        assert os.environ[FAIL_VARIABLE] == "hang=0.5"
    with stand_in(tmp_path, ["O"], "PBE", ""):
        assert os.environ[FAIL_VARIABLE] == ""
    monkeypatch.setenv(FAIL_VARIABLE, "hang=often")
    with pytest.raises(UserError, match=FAIL_VARIABLE), stand_in(tmp_path, ["O"], "PBE"):
        pass


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
        [("Mg", "PBE_99", "PBE_99"), ("Zz_pv", "PBE", "Zz_pv")],
    )
    def test_reject_unknown_names(self, tmp_path, symbol, functional, message):
        with pytest.raises(UserError, match=message):
            write_placeholders(tmp_path, [symbol], functional)
