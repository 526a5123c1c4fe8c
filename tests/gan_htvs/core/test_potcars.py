from __future__ import annotations

import gzip
import shutil

import pytest
from pymatgen.core import SETTINGS
from pymatgen.io.vasp import inputs
from pymatgen.io.vasp.inputs import PotcarSingle
from pymatgen.io.vasp.sets import MPRelaxSet, MPScanRelaxSet

from gan_htvs.core.potcars import check_potcars, potcar_symbols
from tests.helpers import rocksalt_cell


@pytest.mark.parametrize("input_set", [MPRelaxSet, MPScanRelaxSet])
def test_symbols_are_those_of_the_input_set(input_set):
    expected = input_set(rocksalt_cell("Mn")).potcar_symbols
    assert sorted(potcar_symbols(input_set(), ["O", "Mn", "O"]).values()) == sorted(expected)


def test_potcar_settings_of_the_user_are_used():
    input_set = MPRelaxSet(user_potcar_settings={"Mn": "Mn_sv"})
    assert potcar_symbols(input_set, ["Mn", "O"]) == {"Mn": "Mn_sv", "O": "O"}
    assert input_set.structure is None
    assert potcar_symbols(input_set, []) == {}


def test_unknown_potcars_are_warnings(potcars):
    potcars("Mg_pv")
    potcars("O")
    report = check_potcars(["O", "Mg_pv", "O"], "PBE")
    assert report.problems == []
    assert [text.split()[1] for text in report.warnings] == ["Mg_pv", "O"]


def test_missing_potcar_is_a_problem_with_the_families_that_have_it(potcars):
    potcars("Mg_pv", "PBE_54")
    potcars("O", "PBE")
    report = check_potcars(["Mg_pv", "O", "Mn_pv"], "PBE")
    mg, mn = report.problems
    assert "Mg_pv" in mg
    assert mg.endswith("PBE_54")
    assert "Mn_pv" in mn
    assert "PBE_54" not in mn


@pytest.mark.parametrize(
    ("content", "message"),
    [({"element": "Mn"}, "element Mn"), ({"lexch": "CA"}, "Perdew-Zunger81")],
)
def test_potcar_of_another_element_or_functional_is_a_problem(potcars, content, message):
    potcars("Mg_pv", **content)
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert message in problem


@pytest.mark.parametrize("kept", [0.01, 0.05, 0.3, 0.7, 0.9, 1])
def test_truncated_potcar_is_a_problem(potcars, kept):
    path = potcars("Mg_pv")
    text = path.read_text()
    path.write_text(text[: int(kept * len(text)) - 3])
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert "cannot be read" in problem or "truncated" in problem


def test_compressed_potcars_are_checked(potcars):
    plain = potcars("Mg_pv")
    packed = plain.with_name("POTCAR.gz")
    with plain.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    plain.unlink()
    assert check_potcars(["Mg_pv"], "PBE").problems == []
    packed.write_bytes(packed.read_bytes()[:-20])
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert "cannot be read" in problem


def test_known_potcar_must_match_its_name(potcars, monkeypatch):
    path = potcars("Mg_pv", "PBE")
    potcar = PotcarSingle(path.read_text())
    titel = potcar.TITEL.replace(" ", "")
    known = potcar._summary_stats | {"VRHFIN": "Mg:placeholder", "symbol": "Mg_pv"}
    database = {functional: {} for functional in PotcarSingle.functional_dir}
    database["PBE"][titel] = [known]
    monkeypatch.setattr(inputs, "_load_potcar_summary_stats", lambda: database)
    assert check_potcars(["Mg_pv"], "PBE") == ([], [])

    shutil.copytree(path.parent, path.parents[1] / "Mg")
    (problem,) = check_potcars(["Mg"], "PBE").problems
    assert problem == "POTCAR Mg of PBE is Mg_pv"

    database["PBE_52"], database["PBE"] = database["PBE"], {}
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert problem == "POTCAR Mg_pv of PBE belongs to PBE_52"


def test_missing_folder_is_one_problem(monkeypatch, tmp_path):
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path / "nowhere"))
    (problem,) = check_potcars(["Mg_pv", "O"], "PBE").problems
    assert "nowhere" in problem
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
    (problem,) = check_potcars(["Mg_pv", "O"], "PBE").problems
    assert "PMG_VASP_PSP_DIR (None)" in problem
    (problem,) = check_potcars(["Mg_pv"], "PBE_99").problems
    assert "PBE_99" in problem
