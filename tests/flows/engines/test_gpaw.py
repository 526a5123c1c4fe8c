from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from flows.band_gap import GpawBandGapMaker
from flows.engines import gpaw
from flows.engines.gpaw import availability, compute_gap, gap_input
from gan_htvs.campaign.engines import BandGapEngineSettings
from gan_htvs.core.band_gap import HSE06_ON_PBE, HSE06_ON_PBE_U, BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.magnetism.initial_moments import magnetic_starts
from tests.helpers import memory_store, relaxed, rocksalt

UNAVAILABLE_REASON = availability()
needs_gpaw = pytest.mark.skipif(UNAVAILABLE_REASON is not None, reason=str(UNAVAILABLE_REASON))


@pytest.fixture
def mgo() -> Structure:
    return rocksalt("Mg", 4.212)


@pytest.fixture
def mno_afm() -> Structure:
    """MnO with (111) planes of alternating spin: 4 atoms."""
    lattice = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]]) * 4.445
    return Structure(lattice, ["Mn", "Mn", "O", "O"], [[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3])


def first_input(structure: Structure, settings: BandGapEngineSettings) -> dict:
    return gap_input(next(iter(magnetic_starts(structure).values())), settings)


class TestInput:
    def test_conventional_cell_is_reduced(self, mgo):
        document = first_input(mgo.to_conventional(), BandGapEngineSettings())
        assert document["species"] == ["Mg", "O"]
        assert document["kpoints"] == (4, 4, 4)
        assert not document["spin_polarized"]
        assert document["setups"] == {"Mg": "2"}

    def test_u_applies_to_oxides_only(self, mno_afm):
        settings = BandGapEngineSettings(hubbard_u={"Mn": 3.9, "V": 3.25})
        assert first_input(mno_afm, settings)["hubbard_u"] == {"Mn": 3.9}
        assert first_input(mno_afm, settings)["setups"] == {"Mn": "7:d,3.9"}
        sulfide = mno_afm.replace_species({"O": "S"}, in_place=False)
        assert first_input(sulfide, settings)["hubbard_u"] == {}
        assert first_input(sulfide, settings)["setups"] == {"Mn": "7"}


def test_missing_or_old_gpaw_is_a_reason(mgo, tmp_path, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(gpaw, "version", absent)
    result = compute_gap(mgo, BandGapEngineSettings(), workdir=tmp_path)
    assert "pip install 'gan-htvs[gpaw]'" in result.reason
    monkeypatch.setattr(gpaw, "version", lambda _: "22.8.0")
    assert "22.8.0" in availability()


@needs_gpaw
def test_too_large_cell_is_skipped(mgo, tmp_path):
    result = compute_gap(mgo, BandGapEngineSettings(max_atoms=1), workdir=tmp_path)
    assert "max_atoms: 1" in result.reason
    assert not result.is_retryable


@needs_gpaw
def test_mno_is_antiferromagnetic_and_both_orderings_are_stored(tmp_path):
    settings = BandGapEngineSettings(cutoff=300, kpoint_length=6)
    result = compute_gap(rocksalt("Mn", 4.445), settings, workdir=tmp_path)
    assert result.reason is None
    afm, fm = result.magnetic_orders
    assert (afm.start, afm.order, afm.nsites) == ("AFM", "AFM", 4)
    assert (fm.start, fm.order, fm.nsites) == ("FM", "FM", 2)
    assert afm.energy_per_atom < fm.energy_per_atom - 0.01
    assert afm.total_magnetization == pytest.approx(0, abs=0.01)
    assert fm.total_magnetization == pytest.approx(5, abs=0.01)
    assert (result.magnetic_order, result.nsites) == ("AFM", 4)
    assert (result.kpoints, result.pbe_gap) == (afm.kpoints, pytest.approx(afm.pbe_gap))
    assert result.method == HSE06_ON_PBE_U
    assert result.band_gap == pytest.approx(2.7, abs=0.4)
    assert not list(tmp_path.glob("**/*.gpw"))
    assert BandGapResult.model_validate_json(result.model_dump_json()) == result


FM = {
    "energy_per_atom": -7.0,
    "total_magnetization": 5.0,
    "site_magnetizations": [4.5, 0.1],
    "pbe_gap": 0.0,
}
AFM = {
    "energy_per_atom": -7.1,
    "total_magnetization": 0.0,
    "site_magnetizations": [4.5, -4.5, 0.0, 0.0],
    "pbe_gap": 1.6,
}
GAP = {"band_gap": 2.5, "is_metal": False, "pbe_gap": 1.6, "gpaw_version": "26.7.0"}
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

task = json.loads(Path(sys.argv[-1]).read_text())
folder, home = Path(task["workdir"]), Path(sys.argv[1])
name = f"{folder.name} {task['step']}"
with (home / "calls").open("a") as calls:
    print(name, file=calls)
(folder / "gpaw-1.txt").write_text("started")
answer = json.loads((home / "answers.json").read_text())[name]
if isinstance(answer, dict):
    time.sleep(answer.pop("delay", 0))
    limit = task["max_scf_iterations"]
    if answer.get("scf_iterations", 0) > limit:
        reason = f"{limit} SCF iterations"
        answer = {"reason": reason, "is_limited": True, "scf_iterations": limit}
if answer == "sleep":
    time.sleep(60)
elif answer == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif answer == "exit":
    sys.exit(3)
else:
    Path(task["output"]).write_text(json.dumps(answer))
"""
"""A launcher in place of GPAW: it returns prepared answers within limits and records the calls."""

BROKEN = {"reason": "ValueError: no convergence", "is_retryable": False}
SLOW_AFM = AFM | {"scf_iterations": 99}
LIMIT = {"max_scf_iterations": 50}
NO_MEMORY = {"reason": "MemoryError: ", "is_retryable": True}
ABOVE_FM = AFM | {"energy_per_atom": -6.9}
GAP_OF_FM = GAP | {"band_gap": 1.3}


@pytest.fixture
def compute(tmp_path, monkeypatch):
    """Return a function that computes the gap of MnO with the stand-in, and lists its steps."""
    monkeypatch.setattr(gpaw, "availability", lambda *_: None)
    (tmp_path / "stand_in.py").write_text(STAND_IN)

    def run(previous=None, settings=None, **answers):
        prepared = {"FM converge": FM, "AFM converge": AFM, "FM gap": GAP_OF_FM, "AFM gap": GAP}
        prepared |= {name.replace("_", " "): answer for name, answer in answers.items()}
        (tmp_path / "answers.json").write_text(json.dumps(prepared))
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        limits = {"max_seconds": 10 if "sleep" in answers.values() else 3600} | (settings or {})
        launcher = [sys.executable, str(tmp_path / "stand_in.py"), str(tmp_path)]
        result = compute_gap(
            rocksalt("Mn", 4.445),
            BandGapEngineSettings(mpi_command=launcher, **limits),
            workdir=tmp_path,
            previous=previous,
        )
        return result, calls.read_text().splitlines() if calls.exists() else []

    return run


class TestSeveralStarts:
    def test_only_the_lowest_ordering_gets_a_hybrid(self, compute):
        result, calls = compute()
        assert calls == ["FM converge", "AFM converge", "AFM gap"]
        assert (result.band_gap, result.magnetic_order) == (2.5, "AFM")
        assert result.is_complete

    def test_too_large_doubled_cell_is_skipped_with_reason(self, compute):
        result, calls = compute(settings={"max_atoms": 3})
        assert calls == ["FM converge", "FM gap"]
        assert result.magnetic_order == "FM"
        assert result.is_complete
        assert result.magnetic_orders[1].is_skipped
        assert "4 atoms" in result.magnetic_orders[1].reason
        assert "max_atoms: 3" in result.magnetic_orders[1].reason

    def test_all_reasons_are_joined_if_no_ordering_converges(self, compute):
        result, _ = compute(settings={"max_atoms": 3}, FM_converge=BROKEN)
        assert result.band_gap is None
        assert result.reason.startswith("FM: GPAW failed: ValueError")
        assert "AFM: 4 atoms" in result.reason
        same_reason, _ = compute(FM_converge=BROKEN, AFM_converge=BROKEN)
        assert same_reason.reason == "GPAW failed: ValueError: no convergence"

    def test_ordering_that_converges_to_another_is_not_missing(self, compute):
        result, _ = compute(AFM_converge=FM)
        assert [order.order for order in result.magnetic_orders] == ["FM", "FM"]
        assert result.is_complete

    def test_single_ordering_can_be_requested(self, compute):
        result, calls = compute(settings={"magnetic_orders": ["FM"]})
        assert calls == ["FM converge", "FM gap"]
        assert len(result.magnetic_orders) == 1


class TestIncompleteGaps:
    """A gap whose limit of SCF iterations stopped an ordering, and a larger limit."""

    def test_has_missing_ordering_and_reason(self, compute):
        result, calls = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        assert calls == ["FM converge", "AFM converge", "FM gap"]
        assert (result.band_gap, result.magnetic_order) == (1.3, "FM")
        assert (result.is_complete, result.is_limited, result.is_retryable) == (False, True, False)
        assert result.reason == "missing magnetic ordering AFM: GPAW failed: 50 SCF iterations"
        assert BandGapResult.model_validate_json(result.model_dump_json()) == result

    def test_is_the_same_at_any_speed(self, compute):
        def without_seconds(result):
            return re.sub(r'"seconds":[^,}]*', "", result.model_dump_json())

        fast, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        slow, _ = compute(
            settings=LIMIT | {"max_seconds": 20},
            FM_converge=FM | {"delay": 0.5},
            AFM_converge=SLOW_AFM | {"delay": 1.5},
        )
        assert slow.seconds > fast.seconds + 1
        assert without_seconds(slow) == without_seconds(fast)

    def test_is_completed_by_a_larger_limit(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        again, calls = compute(first, settings=LIMIT, AFM_converge=SLOW_AFM)
        assert calls == []
        assert (again.band_gap, again.is_complete) == (1.3, False)
        result, calls = compute(first, AFM_converge=SLOW_AFM)
        assert calls == ["AFM converge", "AFM gap"]
        assert (result.is_complete, result.is_limited, result.reason) == (True, False, None)
        assert (result.band_gap, result.magnetic_order, result.scf_iterations) == (2.5, "AFM", 99)
        assert [order.start for order in result.magnetic_orders] == ["AFM", "FM"]

    def test_keeps_its_gap_if_the_missing_ordering_is_higher(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        result, calls = compute(first, AFM_converge=ABOVE_FM)
        assert calls == ["AFM converge"]
        assert result.is_complete
        assert (result.band_gap, result.magnetic_order, result.nsites) == (1.3, "FM", 2)

    def test_stays_incomplete_if_the_ordering_fails(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        result, calls = compute(first, AFM_converge=BROKEN)
        assert calls == ["AFM converge"]
        assert (result.band_gap, result.is_complete) == (1.3, False)
        assert (result.is_limited, result.is_retryable) == (False, False)
        unchanged, calls = compute(result)
        assert calls == []
        assert (unchanged.band_gap, unchanged.is_complete) == (1.3, False)

    def test_lacks_the_first_ordering(self, compute):
        first, _ = compute(settings=LIMIT, FM_converge=FM | {"scf_iterations": 99})
        assert (first.band_gap, first.is_complete) == (2.5, False)
        result, calls = compute(first)
        assert calls == ["FM converge"]
        assert (result.band_gap, result.magnetic_order, result.is_complete) == (2.5, "AFM", True)

    def test_loses_its_gap_if_the_hybrid_of_a_lower_ordering_is_killed(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        result, _ = compute(first, AFM_converge=SLOW_AFM, AFM_gap="kill")
        assert result.band_gap is None
        assert result.is_retryable
        assert [order.energy_per_atom for order in result.magnetic_orders] == [-7.1, -7.0]
        last, calls = compute(result, settings=LIMIT, AFM_converge=SLOW_AFM)
        assert calls == ["AFM converge", "AFM gap"], "with the iterations that it needed"
        assert (last.band_gap, last.is_complete) == (2.5, True)

    def test_loses_its_gap_if_the_missing_ordering_is_killed(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        result, _ = compute(first, AFM_converge="kill")
        assert (result.band_gap, result.is_retryable) == (None, True)

    def test_all_is_computed_again_with_another_gpaw_version(self, compute):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        orders = [order.model_dump() | {"gpaw_version": "1.0"} for order in first.magnetic_orders]
        result, calls = compute(
            BandGapResult.model_validate(first.model_dump() | {"magnetic_orders": orders})
        )
        assert calls == ["FM converge", "AFM converge", "AFM gap"]
        assert result.is_complete

    def test_is_kept_without_gpaw(self, compute, monkeypatch):
        first, _ = compute(settings=LIMIT, AFM_converge=SLOW_AFM)
        monkeypatch.setattr(gpaw, "availability", lambda *_: "GPAW is not installed")
        assert compute(first) == (first, [])


def test_gap_that_needs_more_hybrid_evaluations_is_not_computed(compute):
    def is_final(result, limit):
        return result.is_final(max_scf_iterations=420, max_hybrid_evaluations=limit)

    needed = {"reason": "90 evaluations", "is_limited": True, "hybrid_evaluations": 90}
    result, _ = compute(settings={"max_hybrid_evaluations": 50}, AFM_gap=needed)
    assert result.band_gap is None
    assert (result.is_limited, result.is_retryable) == (True, False)
    assert [is_final(result, limit) for limit in (50, 89, 90)] == [True, True, False]
    complete, calls = compute(result)
    assert calls == ["AFM converge", "AFM gap"]
    assert is_final(complete, 1000)


class TestKilledCalculations:
    """The other ordering is no substitute for one whose calculation was killed."""

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("sleep", "killed after 10 s (engines.band_gap.max_seconds)"),
            ("kill", "killed by SIGKILL"),
            ("exit", "GPAW failed"),
            (NO_MEMORY, "MemoryError"),
        ],
    )
    def test_gap_is_not_computed(self, compute, answer, reason):
        result, calls = compute(AFM_converge=answer)
        assert calls == ["FM converge", "AFM converge"]
        assert result.band_gap is None
        assert (result.is_complete, result.is_retryable) == (False, True)
        assert result.reason.startswith("missing magnetic ordering AFM: GPAW")
        assert reason in result.reason
        assert BandGapResult.model_validate_json(result.model_dump_json()) == result

    @pytest.mark.parametrize("answer", ["kill", "exit", NO_MEMORY])
    def test_next_calculation_computes_what_is_missing(self, compute, answer):
        first, _ = compute(AFM_converge=answer)
        result, calls = compute(first)
        assert calls == ["AFM converge", "AFM gap"]
        assert (result.band_gap, result.is_complete) == (2.5, True)
        result, calls = compute(first, AFM_converge=ABOVE_FM)
        assert calls == ["AFM converge", "FM converge", "FM gap"]
        assert (result.band_gap, result.is_complete) == (1.3, True)

    def test_no_calculation_starts_after_the_wall_time(self, compute):
        first, calls = compute(settings={"max_seconds": 2}, FM_converge="sleep")
        assert calls == ["FM converge"]
        assert first.band_gap is None
        assert first.reason == "GPAW was killed after 2 s (engines.band_gap.max_seconds)"
        assert first.is_retryable
        result, calls = compute(first)
        assert calls == ["FM converge", "AFM converge", "AFM gap"]
        assert (result.band_gap, result.is_complete) == (2.5, True)


N_FM = 9
"""SCF iterations of ferromagnetic MnO with coarse settings; antiferromagnetic MnO needs 10."""


@needs_gpaw
def test_job_completes_an_incomplete_gap(tmp_path):
    settings = BandGapEngineSettings(cutoff=250, kpoint_length=4)
    structure = relaxed(rocksalt("Mn", 4.445))
    store = memory_store()

    def run(name, previous=None, **changes):
        maker = GpawBandGapMaker(settings=settings.model_copy(update=changes))
        gap_job = maker.make(structure, previous)
        gap_job.set_uuid("gap")
        folder = tmp_path / name
        folder.mkdir()
        run_locally(gap_job, store=store, create_folders=True, root_dir=folder, log=False)
        return BandGapResult.model_validate(decode(store.get_output("gap")))

    first = run("first", max_scf_iterations=N_FM)
    assert (first.magnetic_order, first.is_complete) == ("FM", False)
    assert f"did not converge in {N_FM} SCF iterations" in first.reason
    assert [order.scf_iterations for order in first.magnetic_orders] == [N_FM, N_FM]
    second = run("second", first)
    assert second.is_complete
    assert [order.start for order in second.magnetic_orders] == ["AFM", "FM"]
    assert second.magnetic_orders[1] == first.magnetic_orders[0]
    assert second.scf_iterations > N_FM
    assert second.band_gap > first.band_gap
    assert not list((tmp_path / "second").rglob("FM/*"))


@needs_gpaw
def test_missing_mpi_launcher_is_named(mgo, tmp_path):
    settings = BandGapEngineSettings(mpi_command=["no-such-mpiexec", "-n", "4"])
    result = compute_gap(mgo, settings, workdir=tmp_path)
    assert "'no-such-mpiexec'" in result.reason
    assert "mpi_command" in result.reason
    assert result.is_retryable


@needs_gpaw
def test_failing_mpi_launcher_is_a_reason(mgo, tmp_path):
    settings = BandGapEngineSettings(mpi_command=["false"])
    result = compute_gap(mgo, settings, workdir=tmp_path)
    assert "mpi_command did not start GPAW" in result.reason
    assert result.is_retryable


@needs_gpaw
def test_gpaw_without_mpi_is_refused_with_launcher(mgo, tmp_path):
    # env is like a launcher with another MPI than GPAW: each process runs alone.
    result = compute_gap(mgo, BandGapEngineSettings(mpi_command=["env"]), workdir=tmp_path)
    assert result.band_gap is None
    assert "libopenmpi-dev" in result.reason
    assert result.is_retryable


@needs_gpaw
def test_mgo_has_the_reference_gap(mgo, tmp_path):
    result = compute_gap(mgo, BandGapEngineSettings(cutoff=400), workdir=tmp_path)
    assert result.reason is None
    assert result.band_gap == pytest.approx(6.26, abs=0.2)
    assert result.is_gap_direct
    assert result.method == HSE06_ON_PBE
    assert (result.kpoints, result.nsites, result.magnetic_order) == ((4, 4, 4), 2, "NM")
    assert result.pbe_gap == pytest.approx(4.5, abs=0.1)


@needs_gpaw
def test_limit_of_hybrid_evaluations_is_a_reason(mgo, tmp_path):
    settings = BandGapEngineSettings(cutoff=250, kpoint_length=4, max_hybrid_evaluations=1)
    result = compute_gap(mgo, settings, workdir=tmp_path)
    assert (result.band_gap, result.is_limited, result.is_retryable) == (None, True, False)
    assert result.hybrid_evaluations > 1
    assert "max_hybrid_evaluations: 1)" in result.reason


@needs_gpaw
def test_element_without_setup_is_a_reason(tmp_path):
    polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
    result = compute_gap(polonium, BandGapEngineSettings(), workdir=tmp_path)
    assert result.band_gap is None
    assert result.reason.startswith("GPAW failed: ")
    assert "PAW dataset" in result.reason
    assert "Po" in result.reason


def scripts_using(folder: Path) -> list[int]:
    """Return the process ids of the scripts that run in a folder."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "_gpaw_gap" in command and str(folder) in command:
            pids.append(int(entry.parent.name))
    return pids


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@needs_gpaw
@needs_proc
def test_timeout_is_a_reason_and_leaves_no_process(mno_afm, tmp_path):
    settings = BandGapEngineSettings(max_seconds=1)
    result = compute_gap(mno_afm, settings, magmoms=[5, -5, 0, 0], workdir=tmp_path)
    assert result.band_gap is None
    assert "killed after 1 s (engines.band_gap.max_seconds)" in result.reason
    assert [order.start for order in result.magnetic_orders] == ["given", "FM", "AFM"]
    assert scripts_using(tmp_path) == []


@needs_gpaw
@needs_proc
def test_calculation_ends_with_its_killed_parent(tmp_path):
    program = (
        "from pymatgen.core import Lattice, Structure\n"
        "from flows.engines.gpaw import compute_gap\n"
        "from gan_htvs.campaign.engines import BandGapEngineSettings\n"
        "s = Structure(Lattice.cubic(4.4), ['Mn', 'O'], [[0, 0, 0], [.5, .5, .5]])\n"
        f"compute_gap(s, BandGapEngineSettings(kpoint_length=40), workdir={str(tmp_path)!r})\n"
    )
    root = str(Path(gpaw.__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        wait_until(lambda: list(tmp_path.glob("gap-*/*/gpaw-1.txt")))
        assert scripts_using(tmp_path)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not scripts_using(tmp_path))


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.1)
