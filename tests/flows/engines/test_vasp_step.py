"""One calculation through custodian, with the failure modes of the stand-in for VASP."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from atomate2 import SETTINGS as ATOMATE2_SETTINGS
from atomate2.vasp.jobs.mp import MPGGARelaxMaker, MPGGAStaticMaker
from custodian.vasp.jobs import VaspJob
from emmet.core.tasks import TaskDoc
from jobflow import run_locally
from pymatgen.core import SETTINGS, Lattice, Structure

from flows.engines.hybrid import gap_of
from flows.engines.vasp_outcome import PROGRAM_VARIABLE, stored_band_edges
from flows.engines.vasp_step import VaspStepMaker, customized
from gan_htvs.campaign.engines import VaspSettings
from gan_htvs.core.document import decode
from gan_htvs.core.failure import CalculationFailure
from launchers.rehearsal.environment import COMMAND, write_placeholders
from launchers.rehearsal.failure_modes import FAIL_VARIABLE
from launchers.rehearsal.labels import PROGRAM
from tests.helpers import memory_store, relaxed, rocksalt

pytestmark = pytest.mark.usefixtures("stand_in")

MGO = rocksalt("Mg", 4.3)

NEEDS_A_PROCESS = ("killed", "hang", "zombie")
"""Failure modes that would kill or block the process of the tests."""


@pytest.fixture
def fail(monkeypatch):
    """Return a function that selects a failure mode of the stand-in."""

    def choose(mode):
        monkeypatch.setenv(FAIL_VARIABLE, mode)
        if mode in NEEDS_A_PROCESS:
            monkeypatch.setattr("atomate2.vasp.run.VaspJob", VaspJob)

    return choose


@pytest.fixture
def damage(monkeypatch, in_process):
    """Return a function that changes an output file of the finished stand-in."""

    def choose(name, change):
        class Damaged(in_process):
            def run(self, directory="./"):
                super().run(directory)
                path = Path(directory) / name
                path.write_text(change(path.read_text()))

        monkeypatch.setattr("atomate2.vasp.run.VaspJob", Damaged)

    return choose


def run(
    tmp_path,
    *,
    start=MGO,
    magmoms=None,
    incar=None,
    is_reference=False,
    maker=MPGGARelaxMaker,
    **settings,
):
    """Run one calculation as a job and return its output from the store."""
    vasp = VaspSettings(**{"frozen_seconds": 15, "polling_seconds": 0.05} | settings)
    commands = dict.fromkeys(("vasp_cmd", "vasp_gamma_cmd"), COMMAND)
    vasp_maker = customized(maker(name="relax", run_vasp_kwargs=commands), vasp, incar or {})
    step = replace(VaspStepMaker.of(vasp), name="relax", vasp=vasp_maker, is_reference=is_reference)
    job = step.make(start, magmoms)
    store = memory_store()
    run_locally(job, store=store, create_folders=True, root_dir=tmp_path, log=False)
    return decode(store.get_output(job.uuid, load=True))


def test_output_is_the_document_of_atomate2(tmp_path):
    task = run(tmp_path)
    assert isinstance(task, TaskDoc)
    assert task.task_label == "relax"
    assert len(task.calcs_reversed[0].output.ionic_steps) > 1
    assert task.structure.volume < MGO.volume


@pytest.mark.parametrize("mode", ["zbrent", "brmix", "hang"])
def test_corrected_errors_are_no_failure(tmp_path, fail, mode):
    fail(mode)
    task = run(tmp_path)
    assert isinstance(task, TaskDoc)
    corrections = [c for run in task.custodian for c in run.corrections]
    assert len(corrections) == 1


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("unconverged", "custodian gave up after 1 errors, the last one Unconverged"),
        ("electronic", "custodian gave up after 1 errors, the last one Unconverged"),
        ("zombie", "custodian gave up after 1 errors, the last one Frozen job"),
        ("killed", "vasprun.xml is missing or cut off"),
        ("truncated", "vasprun.xml is missing or cut off"),
        ("missing", "vasprun.xml is missing or cut off"),
    ],
)
def test_failure_is_a_document_with_reason_and_folder(tmp_path, fail, mode, reason):
    fail(mode)
    failure = run(tmp_path, incar={"NSW": 3} if mode == "unconverged" else {}, max_errors=1)
    assert isinstance(failure, CalculationFailure)
    assert failure.reason.startswith(reason)
    assert failure.step == "relax"
    host, folder = failure.folder.split(":")
    assert host == socket.gethostname()
    assert (Path(folder) / "INCAR").exists()
    assert len(failure.corrections) == ("custodian" in reason)
    assert failure.is_retryable == (mode not in ("unconverged", "electronic"))


def replaced_in_last_step(pattern, number):
    """Return a function that replaces numbers of the last ionic step of vasprun.xml."""

    def change(text):
        head, last = text.rsplit("<calculation>", 1)
        assert re.search(pattern, last)
        return head + "<calculation>" + re.sub(pattern, rf"\g<1> {number} <", last)

    return change


ENERGIES = r'(<i name="e_\w+">)[^<]*<'
FORCES = r'(<varray name="forces">\s*<v>)[^<]*<'


@pytest.mark.parametrize("number", ["****************", "NaN", "Infinity"])
@pytest.mark.parametrize("maker", [MPGGARelaxMaker, MPGGAStaticMaker])
def test_non_finite_energy_is_a_failure(tmp_path, damage, number, maker):
    damage("vasprun.xml", replaced_in_last_step(ENERGIES, number))
    failure = run(tmp_path, maker=maker, max_errors=1)
    assert isinstance(failure, CalculationFailure)
    assert failure.job
    assert Path(failure.folder.split(":")[1]).is_dir()
    if number != "Infinity":  # custodian treats a positive energy as another error
        assert "not finite" in failure.reason
        assert "energy" in failure.reason


def test_overflowing_forces_are_a_failure(tmp_path, damage):
    damage("vasprun.xml", replaced_in_last_step(FORCES, " ".join(["*" * 16] * 3)))
    failure = run(tmp_path)
    assert isinstance(failure, CalculationFailure)
    assert "forces" in failure.reason


def cut_before_moments(text):
    return text[: text.rindex("magnetization (x)")]


def without_moments(text):
    end = text.index("General timing")
    return cut_before_moments(text) + text[end:]


def overflowing(text):
    start = text.rindex("magnetization (x)")
    return text[:start] + re.sub(r"(\n\s+1 .*?)\S+(?=\n)", r"\1*******", text[start:], count=1)


@pytest.mark.parametrize("change", [cut_before_moments, without_moments, overflowing])
def test_outcar_without_moments_is_a_failure(tmp_path, damage, change):
    damage("OUTCAR", change)
    failure = run(tmp_path)
    assert isinstance(failure, CalculationFailure)
    assert "magnetic moments" in failure.reason


@pytest.mark.parametrize("change", [cut_before_moments, without_moments])
def test_moments_are_not_required_without_spin(tmp_path, damage, change):
    def with_header(text):  # neither VASP nor the stand-in writes this table without spin
        return change(f"{text}\n magnetization (x)\n General timing")

    damage("OUTCAR", with_header)
    assert isinstance(run(tmp_path, incar={"ISPIN": 1}), TaskDoc)


def test_static_calculation_stores_band_edges(tmp_path):
    task = run(tmp_path, maker=MPGGAStaticMaker)
    edges = stored_band_edges(task)
    output = task.calcs_reversed[0].output
    assert edges.gap == pytest.approx(output.cbm - output.vbm)
    assert not edges.is_metal


def test_too_few_bands_give_no_gap(tmp_path):
    task = run(tmp_path, maker=MPGGAStaticMaker, incar={"NBANDS": 7})  # for 14 electrons
    assert isinstance(task, TaskDoc)
    assert stored_band_edges(task) is None
    result = gap_of(task, relaxed(MGO), "gap")
    assert result.band_gap is None
    assert "NBANDS = 7" in result.reason


class TestSettingsOfAtomate2:
    @pytest.mark.parametrize(
        "updates",
        [
            {"GGA": "Ps"},
            {"ENCUT": 300},
            {"NCORE": 4, "ispin": 1},
            {" metagga ": "R2SCAN"},
            {"MAGMOM": [0, 0]},
            {"LUSE_VDW": True},
        ],
    )
    def test_cannot_change_the_level_of_theory(self, tmp_path, monkeypatch, updates):
        monkeypatch.setattr(ATOMATE2_SETTINGS, "VASP_INCAR_UPDATES", updates)
        failure = run(tmp_path)
        assert isinstance(failure, CalculationFailure)
        assert ATOMATE2_SETTINGS.CONFIG_FILE in failure.reason
        assert "VASP_INCAR_UPDATES" in failure.reason
        assert next(reversed(updates)).strip().upper() in failure.reason
        assert not list(tmp_path.rglob("INCAR*"))

    def test_can_change_parallelization(self, tmp_path, monkeypatch):
        updates = {"NCORE": 4, "KPAR": 2, "NELM": 77}
        monkeypatch.setattr(ATOMATE2_SETTINGS, "VASP_INCAR_UPDATES", updates)
        task = run(tmp_path)
        assert isinstance(task, TaskDoc)
        assert updates.items() <= task.calcs_reversed[0].input.incar.items()

    def test_cannot_suppress_moments(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ATOMATE2_SETTINGS, "VASP_INCAR_UPDATES", {"LORBIT": 0})
        failure = run(tmp_path)
        assert "LORBIT = 0" in failure.reason
        assert not list(tmp_path.rglob("INCAR*"))


def test_time_limit_is_the_reason(tmp_path, fail, monkeypatch):
    fail("unconverged")
    monkeypatch.setattr("atomate2.vasp.run.VaspJob", VaspJob)
    failure = run(tmp_path, max_seconds=8, incar={"NSW": 10_000})
    assert failure.reason == "stopped at engines.vasp.max_seconds"
    assert failure.is_retryable


def test_no_calculation_runs_after_a_failure(tmp_path):
    failure = CalculationFailure(
        step="relax 1", reason="an earlier failure", folder="here:/x", job="its uuid"
    )
    assert run(tmp_path, start=failure) == failure
    assert not list(tmp_path.rglob("INCAR"))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (None, "the previous calculation has no output"),
        (
            Structure(Lattice.cubic(3), ["Mg", "O"], [[0, 0, 0], [0, 0, 0.1]]),
            "structure to start from: ",
        ),
    ],
)
def test_invalid_start_is_a_failure(tmp_path, start, reason):
    failure = run(tmp_path, start=start)
    assert failure.reason.startswith(reason)
    assert not list(tmp_path.rglob("INCAR"))


@pytest.mark.parametrize("expected", [None, "vasp", "another program"])
def test_output_of_another_program_is_refused(tmp_path, monkeypatch, expected):
    if expected is None:
        monkeypatch.delenv(PROGRAM_VARIABLE)
    else:
        monkeypatch.setenv(PROGRAM_VARIABLE, expected)
    failure = run(tmp_path)
    assert isinstance(failure, CalculationFailure)
    assert PROGRAM in failure.reason
    assert (expected or "vasp") in failure.reason
    assert not failure.is_retryable


def test_missing_potcar_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path))
    failure = run(tmp_path)
    assert "POTCAR" in failure.reason


CALCIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(7.1), ["Ca"], [[0, 0, 0]])
"""89 A^3/atom, above the limit of generated structures."""


class TestReferencePhases:
    def test_large_volumes_are_computed(self, tmp_path):
        write_placeholders(Path(SETTINGS["PMG_VASP_PSP_DIR"]), ["Ca_sv"], "PBE")
        assert isinstance(run(tmp_path, start=CALCIUM, is_reference=True), TaskDoc)

    def test_large_volumes_of_generated_structures_are_refused(self, tmp_path):
        assert "bad_volume" in run(tmp_path, start=CALCIUM).reason
        assert not list(tmp_path.rglob("INCAR"))
