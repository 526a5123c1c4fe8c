from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pymatgen.core import Composition, Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.campaign.model import Campaign
from gan_htvs.thermodynamics.references import ReferencePhase
from launchers.cli.main import app
from launchers.monitor.doctor import machine_checks as machine
from launchers.monitor.doctor.diagnosis import aqueous_ions, machine_checks, potentials_of
from launchers.monitor.findings import Severity
from tests.helpers import write_fetched_phases
from tests.reference_files import VANADIUM_IONS

runner = CliRunner()

SEARCH = {
    "name": "search",
    "chemical_system": {"caps": {"Mg": 2, "Mn": 2, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
    "prescreen": None,
}


@pytest.fixture
def doctor(launchpad_file, tmp_path, monkeypatch):
    """Run the doctor in an empty folder; return the exit code and the checks by name."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    plenty = SimpleNamespace(free=100 * machine.GIB)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: plenty)

    def call(*arguments: object):
        words = [str(argument) for argument in ("doctor", "-l", launchpad_file, *arguments)]
        result = runner.invoke(app, [*words, "--json"])
        return result.exit_code, {check["where"]: check for check in json.loads(result.stdout)}

    return call


@pytest.fixture
def no_gpaw(monkeypatch):
    monkeypatch.setattr("flows.engines.gpaw.availability", lambda: "GPAW is absent: install it")


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(SEARCH))
    return path


def test_missing_optional_part_is_a_warning_without_a_campaign(doctor, no_gpaw):
    code, checks = doctor()
    assert code == 0
    assert checks["GPAW"]["severity"] == "warning"
    assert checks["database"]["severity"] == "ok"
    assert doctor("--strict")[0] == 1


def test_missing_requirement_of_a_campaign_is_a_failure_and_others_are_skipped(
    doctor, no_gpaw, campaign_file
):
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["GPAW"] == {
        "where": "GPAW",
        "severity": "failure",
        "what": "GPAW is absent",
        "fix": "install it",
        "repair": None,
    }
    for name in ("VASP", "POTCARs", "Materials Project", "potential sevennet-0"):
        assert checks[name]["severity"] == "skipped"


def test_force_field_is_loaded_with_its_arguments(doctor, campaign_file, monkeypatch):
    energy = {"name": "DeepMD", "arguments": {"model": "/no/model.pb"}}
    engines = {"energy": energy, "band_gap": {"name": "none"}}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"engines": engines}))

    def no_module(*_, **__):
        raise ModuleNotFoundError("No module named 'deepmd'")

    monkeypatch.setattr("atomate2.forcefields.utils.ase_calculator", no_module)
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["potential chgnet"]["severity"] == "skipped"
    assert checks["potential DeepMD"]["severity"] == "failure"
    assert "pip install deepmd-kit" in checks["potential DeepMD"]["what"]

    arguments = {}
    monkeypatch.setattr(
        "atomate2.forcefields.utils.ase_calculator", lambda _, **a: arguments.update(a)
    )
    _, checks = doctor(campaign_file)
    assert checks["potential DeepMD"]["severity"] == "ok"
    assert arguments == {"model": "/no/model.pb"}


def test_potential_of_the_confirmation_must_be_installed(doctor, campaign_file, monkeypatch):
    engines = {"band_gap": {"name": "none"}}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"engines": engines, "prescreen": {}}))
    monkeypatch.setattr(
        "gan_htvs.potentials.calculators.find_spec",
        lambda name: None if name == "sevenn" else find_spec(name),
    )
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["potential chgnet"]["severity"] == "ok"
    assert checks["potential sevennet-0"]["severity"] == "failure"
    assert "prescreen.confirm" in checks["potential sevennet-0"]["what"]


def test_every_problem_has_a_fix(doctor, no_gpaw):
    _, checks = doctor("-l", "nowhere.yaml")
    bad = [check for check in checks.values() if check["severity"] in ("warning", "failure")]
    assert bad
    # The message of a UserError includes the fix.
    assert all(check["fix"] or "; " in check["what"] or "`" in check["what"] for check in bad)


def test_checks_run_after_an_exception_in_another(doctor, monkeypatch):
    def crash():
        raise RuntimeError("no such luck")

    monkeypatch.setattr("launchers.monitor.doctor.software_checks.libraries", crash)
    code, checks = doctor()
    assert code == 1
    assert "no such luck" in checks["libraries"]["what"]
    assert checks["database"]["severity"] == "ok"


def test_missing_launchpad_file_is_a_failure_only_with_a_campaign(doctor, campaign_file):
    code, checks = doctor("-l", "nowhere.yaml")
    assert code == 0
    assert checks["database"]["severity"] == "warning"
    assert "gan-htvs init" in checks["database"]["what"]
    assert "JobStore" not in checks
    _, checks = doctor("-l", "nowhere.yaml", campaign_file)
    assert checks["database"]["severity"] == "failure"


def test_invalid_launchpad_file_is_one_failure(doctor, launchpad_file):
    launchpad_file.write_text("host: [\n")
    code, checks = doctor()
    assert code == 1
    assert "not valid YAML" in checks["database"]["what"]
    assert [check for check in checks.values() if check["severity"] == "failure"] == [
        checks["database"]
    ]


def test_invalid_campaign_is_a_user_error(campaign_file):
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"nme": "search"}))
    result = runner.invoke(app, ["doctor", str(campaign_file)])
    assert result.exit_code == 2
    assert "unknown key 'nme'" in result.stderr


def test_doctor_does_not_fetch_reference_phases(doctor, campaign_file, monkeypatch):
    def fetch(*_):
        raise AssertionError("network access")

    monkeypatch.setattr("gan_htvs.campaign.campaign_file.fetch_phases", fetch)
    references = {"source": "materials_project", "path": "phases.json"}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"references": references}))
    monkeypatch.delenv("MP_API_KEY", raising=False)
    code, checks = doctor(campaign_file, "-l", "nowhere.yaml")
    assert code == 1
    assert checks["Materials Project"]["severity"] == "failure"


def test_table_shows_severity_and_fix(doctor, no_gpaw):
    result = runner.invoke(app, ["doctor", "-l", "nowhere.yaml"])
    assert result.exit_code == 0
    line, fix = next(
        pair
        for pair in zip(result.stdout.splitlines(), result.stdout.splitlines()[1:], strict=False)
        if "GPAW" in pair[0]
    )
    assert "warning" in line
    assert "fix: install it" in fix


def campaign_of(**sections):
    return Campaign.model_validate(SEARCH | sections)


def engines_of(energy, band_gap, **vasp):
    return {"energy": {"name": energy}, "band_gap": {"name": band_gap}, "vasp": vasp}


def severities(campaign):
    """Return the severity of a failure of each check that not all campaigns need."""
    checks = machine_checks(campaign, Path())
    parts = ("potential ", "GPAW", "VASP", "POTCARs", "enumlib", "Materials Project")
    return {
        check.where.removeprefix("potential "): check.severity
        for check in checks
        if check.where.startswith(parts)
    }


def required(campaign):
    return {name for name, severity in severities(campaign).items() if severity == "failure"}


VASP = {"VASP", "POTCARs"}


@pytest.mark.parametrize(
    ("energy", "band_gap", "pre_relaxation", "expected"),
    [
        ("chgnet", "gpaw", None, {"chgnet", "GPAW"}),
        ("sevennet-0", "none", None, {"sevennet-0"}),
        ("chgnet", "vasp", None, {"chgnet"} | VASP),
        ("vasp", "vasp", None, VASP),
        ("vasp", "none", "sevennet-l3i5", VASP | {"sevennet-l3i5"}),
        ("vasp", "none", "MatterSim", VASP | {"MatterSim"}),
        ("chgnet", "vasp", "MatterSim", VASP | {"chgnet"}),
        ("MACE-MP-0", "none", None, {"MACE-MP-0"}),
    ],
)
def test_only_engines_of_the_campaign_are_required(energy, band_gap, pre_relaxation, expected):
    engines = engines_of(energy, band_gap, pre_relaxation=pre_relaxation)
    assert required(campaign_of(engines=engines)) == expected


@pytest.mark.parametrize(
    ("energy", "prescreen", "expected"),
    [
        ("chgnet", {}, {"chgnet", "sevennet-0"}),
        ("chgnet", {"confirm": "none"}, {"chgnet"}),
        ("vasp", {"potential": "sevennet-l3i5"}, VASP | {"sevennet-l3i5", "chgnet"}),
        ("MACE-MP-0", {"confirm": "MatterSim"}, {"MACE-MP-0", "MatterSim"}),
    ],
)
def test_both_potentials_of_a_prescreen_are_required(energy, prescreen, expected):
    assert (
        required(campaign_of(engines=engines_of(energy, "none"), prescreen=prescreen)) == expected
    )


def test_each_potential_has_its_own_arguments():
    energy = {"name": "MACE-MP-0", "arguments": {"model": "small"}}
    campaign = campaign_of(
        engines={"energy": energy, "band_gap": {"name": "none"}},
        prescreen={"confirm": "MatterSim", "confirm_arguments": {"model": "/a/file"}},
    )
    arguments = potentials_of(campaign)
    assert arguments["MACE-MP-0"] == {"model": "small"}
    assert arguments["MatterSim"] == {"model": "/a/file"}


def test_potcars_of_the_chosen_functional_are_required(potcars):
    engines = engines_of("chgnet", "vasp", potcar_functional="PBE_54")
    checks = machine_checks(campaign_of(engines=engines), Path())
    finding = next(check for check in checks if check.where == "POTCARs").run()
    assert "POTCAR Mn_pv of PBE_54" in finding.what


def test_enumlib_is_required_for_its_orderings_with_vasp():
    for energy, expected in (("vasp", Severity.FAILURE), ("chgnet", None)):
        engines = engines_of(energy, "none", orderings="enumlib")
        assert severities(campaign_of(engines=engines))["enumlib"] is expected
    assert severities(None)["enumlib"] is Severity.SKIPPED


def test_nothing_is_required_without_a_campaign():
    assert set(severities(None).values()) == {Severity.WARNING, Severity.SKIPPED}


def test_materials_project_is_required_for_its_dataset():
    engines = {"energy": {"name": "sevennet-0"}, "band_gap": {"name": "none"}}
    campaign = campaign_of(engines=engines, dataset={"source": "materials_project"})
    assert required(campaign) == {"sevennet-0", "Materials Project"}


def ions_of(campaign):
    return aqueous_ions(campaign, campaign.aqueous_conditions)


class TestAqueousIons:
    def test_system_with_ions_and_reference_solids_is_ok(self):
        finding = ions_of(campaign_of())
        assert finding.severity is Severity.OK
        assert "MgO, MnO2" in finding.what

    def test_element_without_ions_is_a_warning(self, tmp_path):
        (tmp_path / "ions.yaml").write_text(VANADIUM_IONS)
        finding = ions_of(campaign_of(pourbaix={"ion_file": tmp_path / "ions.yaml"}))
        assert finding.severity is Severity.WARNING
        assert "Mg, Mn" in finding.what
        assert finding.text.endswith("name a table with these ions in pourbaix.ion_file")

    def test_reference_solids_are_listed_before_the_phases_are_fetched(self, tmp_path):
        finding = ions_of(potassium_manganese_fluorides(tmp_path / "phases.json"))
        assert finding.severity is Severity.OK
        assert all(formula in finding.what for formula in ("NaF", "Na", "K2O", "MnO2"))

    def test_missing_reference_solid_is_a_warning(self, tmp_path):
        campaign = potassium_manganese_fluorides(tmp_path / "phases.json", "K", "Mn", "F2", "KF")
        finding = ions_of(campaign)
        assert finding.severity is Severity.WARNING
        assert all(formula in finding.what for formula in ("NaF", "K2O", "MnO2"))

    def test_system_without_oxygen_needs_oxides(self, tmp_path):
        required = ("K", "Mn", "F2", "Na", "O2", "NaF", "K2O", "MnO2")
        path = tmp_path / "phases.json"
        finding = ions_of(potassium_manganese_fluorides(path, *required))
        assert finding.severity is Severity.WARNING
        assert "oxides" in finding.fix
        campaign = potassium_manganese_fluorides(tmp_path / "more.json", *required, "Mn2O3")
        assert ions_of(campaign).severity is Severity.OK


def potassium_manganese_fluorides(path, *formulas):
    """Return a campaign with a file of reference phases; without formulas, there is no file."""
    elements = ("F", "K", "Mn")
    campaign = campaign_of(
        chemical_system={"caps": {"K": 2, "Mn": 2, "F": 6}},
        oxidation_states={"K": [1, 1], "Mn": [2, 4], "F": [-1, -1]},
        references={"source": "materials_project", "path": path},
    )
    if formulas:
        phases = [
            ReferencePhase(name=formula, structure=any_crystal(formula), source="a test")
            for formula in formulas
        ]
        write_fetched_phases(path, phases, elements)
    return campaign


def any_crystal(formula):
    """Build a crystal of this composition; its geometry does not matter."""
    symbols = [el.symbol for el, n in Composition(formula).items() for _ in range(int(n))]
    positions = [[i / len(symbols)] * 3 for i in range(len(symbols))]
    return Structure(Lattice.cubic(3.0 * len(symbols)), symbols, positions)
