from __future__ import annotations

import pytest

from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.errors import UserError
from gan_htvs.core.potcars import PotcarReport, potcar_symbols
from launchers.monitor.doctor import vasp_checks as vasp
from launchers.monitor.findings import Severity

ELEMENTS = ("Mg", "Mn", "O")


def family(functional: str, **vasp: object) -> EngineSettings:
    return EngineSettings(energy={"name": "vasp"}, vasp={"potcar_functional": functional, **vasp})


def test_a_command_is_found_behind_its_launcher(programs, monkeypatch):
    programs("srun")
    binary = programs("vasp_std")
    assert vasp.command_of("srun -n 4 vasp_std", "vasp_gam", {}).severity is Severity.OK
    monkeypatch.setenv("VASP_BIN", str(binary))
    assert vasp.command_of("srun --cpu-bind=cores $VASP_BIN", "x", {}).severity is Severity.OK


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
    assert finding.severity is Severity.FAILURE
    assert complaint in finding.what
    assert finding.fix


def test_a_file_that_is_not_executable_is_named(programs):
    path = programs("vasp_std")
    path.chmod(0o644)
    assert "not executable" in vasp.command_of(str(path), "vasp_gam", {}).what


def test_nothing_is_run(programs, tmp_path):
    trace = tmp_path / "ran"
    programs("srun", f": > {trace}")
    programs("vasp_std", f": > {trace}")
    vasp.command_of("srun vasp_std", "vasp_std", {})
    assert not trace.exists()


def test_the_variable_that_atomate2_does_not_read_is_named(programs):
    there = {"VASP_CMD": "srun vasp"}
    assert "atomate2 does not read" in vasp.command_of("vasp_std", "vasp_gam", there).what
    both = there | {"ATOMATE2_VASP_CMD": "vasp_std"}
    assert "atomate2 does not read" not in vasp.command_of("vasp_std", "vasp_gam", both).what


def test_the_command_is_atomate2s_own(programs, monkeypatch):
    programs("vasp_of_the_site")
    assert vasp.command().severity is Severity.FAILURE
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "vasp_of_the_site")
    assert vasp.command().severity is Severity.OK


@pytest.mark.parametrize("functional", ["PBE", "PBE_54"])
def test_relaxation_static_and_hybrid_ask_for_the_potcars_that_are_looked_up(functional):
    engines = family(functional)
    energy = VaspEnergyMaker.of(engines)
    relaxations = (energy.relax_maker.relax_maker1, energy.relax_maker.relax_maker2)
    hybrid = VaspBandGapMaker.of(engines).hybrid_maker
    looked_up = vasp.input_set_of(engines)
    for maker in (*relaxations, energy.static_maker, hybrid):
        asked = maker.input_set_generator
        assert asked.user_potcar_functional == looked_up.user_potcar_functional == functional
        assert potcar_symbols(asked, ELEMENTS) == potcar_symbols(looked_up, ELEMENTS)


def test_powerups_are_tried():
    powerup = {"name": "use_auto_ispin", "arguments": {"really": True}}
    with pytest.raises(UserError, match="use_auto_ispin"):
        vasp.input_set_of(family("PBE", powerups=[powerup]))


def test_every_potcar_is_opened(potcars):
    engines = family("PBE_54")
    symbols = potcar_symbols(vasp.input_set_of(engines), ELEMENTS)
    for element in ("Mn", "O"):
        potcars(symbols[element], "PBE_54")
    missing = vasp.potcars(ELEMENTS, engines)
    assert missing.severity is Severity.FAILURE
    assert f"POTCAR {symbols['Mg']} of PBE_54 is not in" in missing.what
    assert "Mn" not in missing.what
    potcars(symbols["Mg"], "PBE_54")
    assert vasp.potcars(ELEMENTS, engines).severity is Severity.WARNING  # unknown to pymatgen


def test_known_potcars_are_ok_and_named(monkeypatch):
    nothing = PotcarReport([], [])
    monkeypatch.setattr(vasp, "check_potcars", lambda *_: nothing)
    assert vasp.potcars(ELEMENTS, family("PBE")).what == "Mg_pv, Mn_pv, O of PBE"


def test_a_missing_element_and_functional_is_named(potcars):
    for symbol in ("Mg_pv", "O"):
        potcars(symbol)
    missing = vasp.potcars(ELEMENTS, family("PBE"))
    assert missing.severity is Severity.FAILURE
    assert "POTCAR Mn_pv of PBE" in missing.what
    assert "POTCAR O" not in missing.what
    assert vasp.potcars(ELEMENTS, family("PBE_54")).severity is Severity.FAILURE


def test_without_elements_the_folder_is_looked_at(potcars, monkeypatch):
    engines = family("PBE")
    assert vasp.potcars((), engines).severity is Severity.OK
    monkeypatch.setattr("gan_htvs.core.potcars.SETTINGS", {})
    assert vasp.potcars((), engines).severity is Severity.FAILURE
