from __future__ import annotations

import pytest
from atomate2.vasp.sets.core import HSEStaticSetGenerator

from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from gan_htvs.engines import EngineSettings
from gan_htvs.errors import UserError
from gan_htvs.potcars import PotcarReport, potcar_symbols
from launchers.doctor import vasp
from launchers.doctor.check import State

ELEMENTS = ("Mg", "Mn", "O")


def family(functional: str, **vasp: object) -> EngineSettings:
    return EngineSettings(energy={"name": "vasp"}, vasp={"potcar_functional": functional, **vasp})


def test_a_command_is_found_behind_its_launcher(programs, monkeypatch):
    programs("srun")
    binary = programs("vasp_std")
    assert vasp.command_of("srun -n 4 vasp_std", "vasp_gam", {}).state is State.OK
    monkeypatch.setenv("VASP_BIN", str(binary))
    assert vasp.command_of("srun --cpu-bind=cores $VASP_BIN", "x", {}).state is State.OK


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("vasp_std", "vasp_std is not on PATH"),
        ("mpirun -n 4 vasp_ok", "mpirun is not on PATH"),
        ("srun vasp_std", "vasp_std is not on PATH"),
        ("", "is empty"),
        ("srun 'vasp_ok", "is no command line"),
    ],
)
def test_what_a_command_lacks_is_named(programs, line, complaint):
    programs("srun")
    programs("vasp_ok")
    finding = vasp.command_of(line, "vasp_gam", {})
    assert finding.state is State.FAILURE
    assert complaint in finding.found
    assert finding.cure


def test_a_file_that_is_not_executable_is_named(programs):
    path = programs("vasp_std")
    path.chmod(0o644)
    assert "is not executable" in vasp.command_of(str(path), "vasp_gam", {}).found


def test_nothing_is_run(programs, tmp_path):
    trace = tmp_path / "ran"
    programs("srun", f": > {trace}")
    programs("vasp_std", f": > {trace}")
    vasp.command_of("srun vasp_std", "vasp_std", {})
    assert not trace.exists()


def test_the_variable_that_atomate2_does_not_read_is_named(programs):
    there = {"VASP_CMD": "srun vasp"}
    assert "atomate2 does not read" in vasp.command_of("vasp_std", "vasp_gam", there).found
    both = there | {"ATOMATE2_VASP_CMD": "vasp_std"}
    assert "atomate2 does not read" not in vasp.command_of("vasp_std", "vasp_gam", both).found


def test_the_command_is_atomate2s_own(programs, monkeypatch):
    programs("vasp_of_the_site")
    assert vasp.command().state is State.FAILURE
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "vasp_of_the_site")
    assert vasp.command().state is State.OK


@pytest.mark.parametrize("functional", ["PBE", "PBE_54"])
def test_relaxation_static_and_hybrid_ask_for_the_potcars_that_are_looked_up(functional):
    engines = family(functional)
    energy = VaspEnergyMaker.of(engines)
    relaxations = (energy.relax_maker.relax_maker1, energy.relax_maker.relax_maker2)
    hybrid = VaspBandGapMaker.of(engines).hybrid_maker
    (looked_up,) = vasp.input_sets(engines)
    for maker in (*relaxations, energy.static_maker, hybrid):
        asked = maker.input_set_generator
        assert asked.user_potcar_functional == looked_up.user_potcar_functional == functional
        assert potcar_symbols(asked, ELEMENTS) == potcar_symbols(looked_up, ELEMENTS)


def test_powerups_are_tried():
    powerup = {"name": "use_auto_ispin", "arguments": {"really": True}}
    with pytest.raises(UserError, match="use_auto_ispin"):
        vasp.input_sets(family("PBE", powerups=[powerup]))


def test_every_potcar_of_every_input_set_is_opened(potcars):
    hybrid = HSEStaticSetGenerator(user_potcar_functional="PBE_54")
    both = [*vasp.input_sets(family("PBE")), hybrid]
    for symbol in ("Mg_pv", "Mn_pv", "O"):
        potcars(symbol)
    assert vasp.potcars(ELEMENTS, both[:1]).state is State.WARNING  # unknown to pymatgen
    missing = vasp.potcars(ELEMENTS, both)
    assert missing.state is State.FAILURE
    assert "POTCAR Mg of PBE_54 is not in" in missing.found
    assert "Mg_pv" not in missing.found
    for symbol in ("Mg", "Mn_pv", "O"):
        potcars(symbol, "PBE_54")
    assert vasp.potcars(ELEMENTS, both).state is State.WARNING


def test_known_potcars_are_ok_and_named(monkeypatch):
    nothing = PotcarReport([], [])
    monkeypatch.setattr(vasp, "examine_potcars", lambda *_: nothing)
    assert vasp.potcars(ELEMENTS, vasp.input_sets(family("PBE"))).found == "Mg_pv, Mn_pv, O of PBE"


def test_a_missing_element_and_functional_is_named(potcars):
    for symbol in ("Mg_pv", "O"):
        potcars(symbol)
    missing = vasp.potcars(ELEMENTS, vasp.input_sets(family("PBE")))
    assert missing.state is State.FAILURE
    assert "POTCAR Mn_pv of PBE" in missing.found
    assert "POTCAR O" not in missing.found
    assert vasp.potcars(ELEMENTS, vasp.input_sets(family("PBE_54"))).state is State.FAILURE


def test_without_elements_the_folder_is_looked_at(potcars, monkeypatch):
    input_sets = vasp.input_sets(family("PBE"))
    assert vasp.potcars((), input_sets).state is State.OK
    monkeypatch.setattr("gan_htvs.potcars.SETTINGS", {})
    assert vasp.potcars((), input_sets).state is State.FAILURE
