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


def test_command_with_launcher_is_found(programs, monkeypatch):
    programs("srun")
    binary = programs("vasp_std")
    assert vasp.command_of("srun -n 4 vasp_std", "vasp_gam", {}).severity is Severity.OK
    monkeypatch.setenv("VASP_BIN", str(binary))
    assert vasp.command_of("srun --cpu-bind=cores $VASP_BIN", "x", {}).severity is Severity.OK


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vasp_std", "vasp_std is not on PATH"),
        ("mpirun -n 4 vasp_ok", "mpirun is not on PATH"),
        ("srun vasp_std", "vasp_std is not on PATH"),
        ("", "is empty"),
        ("srun 'vasp_ok", "command line"),
    ],
)
def test_invalid_command_is_a_failure(programs, line, problem):
    programs("srun")
    programs("vasp_ok")
    finding = vasp.command_of(line, "vasp_gam", {})
    assert finding.severity is Severity.FAILURE
    assert problem in finding.what
    assert finding.fix


@pytest.mark.parametrize(
    "line",
    [
        "srun shifter vasp_std",
        "srun -n 8 apptainer exec --bind /scratch:/scratch vasp.sif vasp_std",
        "srun --container-image=site/vasp:6 vasp_gam",
        "mpirun -np 4 singularity exec my.sif /opt/vasp/bin/vasp_std",  # only on the nodes
        "apptainer run vasp.sif",
        "env OMP_NUM_THREADS=2 vasp_std",
        "srun env OMP_NUM_THREADS=2 vasp_std",
        "bash -lc 'module load vasp && srun vasp_std > out 2>&1'",
        "wrapper.sh standard",
    ],
)
def test_program_behind_a_wrapper_is_only_a_warning(programs, line):
    for name in ("srun", "mpirun", "shifter", "apptainer", "env", "bash", "wrapper.sh"):
        programs(name)
    finding = vasp.command_of(line, "vasp_gam", {})
    assert finding.severity is Severity.WARNING
    assert finding.fix


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("srun vasp_std > vasp.log", "redirection"),
        ("srun vasp_std>vasp.log", "redirection"),
        ("srun vasp_std 2>&1", "redirection"),
        ("srun vasp_std < input", "redirection"),
        ("srun vasp_std | tee vasp.log", "redirection"),
        ("module load vasp; srun vasp_std", "environment.sh"),
        ("ulimit -s unlimited && srun vasp_std", "environment.sh"),
        ("srun hostname ; srun vasp_std", "bash -lc"),
        ("srun vasp_std &", "bash -lc"),
        ("OMP_NUM_THREADS=1 srun vasp_std", "export"),
        ("srun ~/bin/vasp_std", "whole path"),
        ("srun $(which vasp_std)", "path of the program"),
    ],
)
def test_syntax_of_a_shell_is_a_failure_with_its_fix(programs, line, part):
    programs("srun")
    programs("vasp_std")
    finding = vasp.command_of(line, "vasp_gam", {})
    assert finding.severity is Severity.FAILURE
    assert "no shell" in finding.what
    assert part in finding.fix


@pytest.mark.parametrize(
    "line", ["srun --export='A=1;B=2' vasp_std", "srun --comment='a > b' vasp_std"]
)
def test_quoted_operators_are_arguments(programs, line):
    programs("srun")
    programs("vasp_std")
    assert vasp.command_of(line, "vasp_gam", {}).severity is Severity.OK


def test_command_must_be_executable(programs):
    path = programs("vasp_std")
    path.chmod(0o644)
    assert "not executable" in vasp.command_of(str(path), "vasp_gam", {}).what


def test_command_is_not_run(programs, tmp_path):
    trace = tmp_path / "ran"
    programs("srun", f": > {trace}")
    programs("vasp_std", f": > {trace}")
    vasp.command_of("srun vasp_std", "vasp_std", {})
    assert not trace.exists()


def test_variable_without_effect_is_reported(programs):
    environment = {"VASP_CMD": "srun vasp"}
    assert "VASP_CMD is set" in vasp.command_of("vasp_std", "vasp_gam", environment).what
    both = environment | {"ATOMATE2_VASP_CMD": "vasp_std"}
    assert "VASP_CMD is set" not in vasp.command_of("vasp_std", "vasp_gam", both).what


def test_command_is_read_from_atomate2_settings(programs, monkeypatch):
    programs("vasp_of_the_site")
    assert vasp.command().severity is Severity.FAILURE
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "vasp_of_the_site")
    assert vasp.command().severity is Severity.OK


@pytest.mark.parametrize("functional", ["PBE", "PBE_54"])
def test_all_jobs_use_the_checked_potcars(functional):
    engines = family(functional)
    energy = VaspEnergyMaker.of(engines)
    relaxations = (energy.relax_maker.relax_maker1, energy.relax_maker.relax_maker2)
    hybrid = VaspBandGapMaker.of(engines).hybrid_maker
    checked = vasp.input_set_of(engines)
    for maker in (*relaxations, energy.static_maker, hybrid):
        of_job = maker.input_set_generator
        assert of_job.user_potcar_functional == checked.user_potcar_functional == functional
        assert potcar_symbols(of_job, ELEMENTS) == potcar_symbols(checked, ELEMENTS)


def test_invalid_powerup_is_a_user_error():
    powerup = {"name": "use_auto_ispin", "arguments": {"really": True}}
    with pytest.raises(UserError, match="use_auto_ispin"):
        vasp.input_set_of(family("PBE", powerups=[powerup]))


def test_every_potcar_is_read(potcars):
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


def test_known_potcars_are_ok(monkeypatch):
    nothing = PotcarReport([], [])
    monkeypatch.setattr(vasp, "check_potcars", lambda *_: nothing)
    assert vasp.potcars(ELEMENTS, family("PBE")).what == "Mg_pv, Mn_pv, O of PBE"


def test_missing_potcar_is_a_failure(potcars):
    for symbol in ("Mg_pv", "O"):
        potcars(symbol)
    missing = vasp.potcars(ELEMENTS, family("PBE"))
    assert missing.severity is Severity.FAILURE
    assert "POTCAR Mn_pv of PBE" in missing.what
    assert "POTCAR O" not in missing.what
    assert vasp.potcars(ELEMENTS, family("PBE_54")).severity is Severity.FAILURE


def test_folder_is_checked_without_elements(potcars, monkeypatch):
    engines = family("PBE")
    assert vasp.potcars((), engines).severity is Severity.OK
    monkeypatch.setattr("gan_htvs.core.potcars.SETTINGS", {})
    assert vasp.potcars((), engines).severity is Severity.FAILURE
