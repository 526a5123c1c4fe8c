from __future__ import annotations

import gzip
import shutil

import pytest
from pymatgen.core import SETTINGS, Lattice, Structure
from pymatgen.io.vasp import inputs
from pymatgen.io.vasp.inputs import PotcarSingle
from pymatgen.io.vasp.sets import MPRelaxSet, MPScanRelaxSet

from gan_htvs.core.potcars import check_potcars, potcar_symbols

ROCKSALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.2), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


@pytest.mark.parametrize("input_set", [MPRelaxSet, MPScanRelaxSet])
def test_symbols_are_those_of_the_input_set_for_a_real_structure(input_set):
    asked = input_set(ROCKSALT).potcar_symbols
    assert sorted(potcar_symbols(input_set(), ["O", "Mn", "O"]).values()) == sorted(asked)


def test_settings_of_the_user_count():
    asked = MPRelaxSet(user_potcar_settings={"Mn": "Mn_sv"})
    assert potcar_symbols(asked, ["Mn", "O"]) == {"Mn": "Mn_sv", "O": "O"}
    assert asked.structure is None
    assert potcar_symbols(asked, []) == {}


def test_whole_potcars_of_nobody_are_doubted_and_no_problem(potcars):
    potcars("Mg_pv")
    potcars("O")
    report = check_potcars(["O", "Mg_pv", "O"], "PBE")
    assert report.problems == []
    assert [text.split()[1] for text in report.warnings] == ["Mg_pv", "O"]


def test_a_missing_potcar_is_named_and_where_there_is_one(potcars):
    potcars("Mg_pv", "PBE_54")
    potcars("O", "PBE")
    report = check_potcars(["Mg_pv", "O", "Mn_pv"], "PBE")
    mg, mn = report.problems
    assert "POTCAR Mg_pv of PBE is not in" in mg
    assert mg.endswith("which has that of PBE_54")
    assert "POTCAR Mn_pv of PBE is not in" in mn
    assert "which has" not in mn


@pytest.mark.parametrize(
    ("disguise", "complaint"),
    [({"element": "Mn"}, "one of the element Mn"), ({"lexch": "CA"}, "made with Perdew-Zunger81")],
)
def test_a_potcar_of_something_else_is_a_problem(potcars, disguise, complaint):
    potcars("Mg_pv", **disguise)
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert complaint in problem


@pytest.mark.parametrize("kept", [0.01, 0.05, 0.3, 0.7, 0.9, 1])
def test_a_cut_potcar_is_a_problem(potcars, kept):
    path = potcars("Mg_pv")
    text = path.read_text()
    path.write_text(text[: int(kept * len(text)) - 3])
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert "cannot be read" in problem or "it was cut" in problem


def test_compressed_potcars_are_read_and_damage_is_seen(potcars):
    plain = potcars("Mg_pv")
    packed = plain.with_name("POTCAR.gz")
    with plain.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    plain.unlink()
    assert check_potcars(["Mg_pv"], "PBE").problems == []
    packed.write_bytes(packed.read_bytes()[:-20])
    (problem,) = check_potcars(["Mg_pv"], "PBE").problems
    assert "cannot be read" in problem


def test_a_potcar_that_pymatgen_knows_is_held_to_its_name(potcars, monkeypatch):
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
    assert problem == "POTCAR Mg_pv of PBE is one of PBE_52"


def test_a_folder_that_is_not_there_is_one_problem(monkeypatch, tmp_path):
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path / "nowhere"))
    (problem,) = check_potcars(["Mg_pv", "O"], "PBE").problems
    assert "nowhere" in problem
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
    (problem,) = check_potcars(["Mg_pv", "O"], "PBE").problems
    assert "PMG_VASP_PSP_DIR (None)" in problem
    (problem,) = check_potcars(["Mg_pv"], "PBE_99").problems
    assert "none of" in problem
