from __future__ import annotations

import json
import os
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
if answer == "sleep":
    time.sleep(60)
elif answer == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif answer == "exit":
    sys.exit(3)
else:
    Path(task["output"]).write_text(json.dumps(answer))
"""
"""A launcher in place of GPAW: it returns prepared answers and records the calls."""

UNCONVERGED = {"reason": "PBE did not converge", "is_retryable": False}
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
        limit = {"max_seconds": 10} if "sleep" in answers.values() else {}
        launcher = [sys.executable, str(tmp_path / "stand_in.py"), str(tmp_path)]
        result = compute_gap(
            rocksalt("Mn", 4.445),
            BandGapEngineSettings(mpi_command=launcher, **limit, **settings or {}),
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
        result, _ = compute(settings={"max_atoms": 3}, FM_converge=UNCONVERGED)
        assert result.band_gap is None
        assert result.reason.startswith("FM: GPAW failed: PBE did not converge")
        assert "AFM: 4 atoms" in result.reason
        same_reason, _ = compute(FM_converge=UNCONVERGED, AFM_converge=UNCONVERGED)
        assert same_reason.reason == "GPAW failed: PBE did not converge"

    def test_ordering_that_converges_to_another_is_not_missing(self, compute):
        result, _ = compute(AFM_converge=FM)
        assert [order.order for order in result.magnetic_orders] == ["FM", "FM"]
        assert result.is_complete

    def test_single_ordering_can_be_requested(self, compute):
        result, calls = compute(settings={"magnetic_orders": ["FM"]})
        assert calls == ["FM converge", "FM gap"]
        assert len(result.magnetic_orders) == 1


class TestIncompleteGaps:
    """A gap with missing magnetic orderings, and the calculation that completes it."""

    @pytest.mark.parametrize(
        ("answer", "reason", "is_retryable"),
        [
            ("sleep", " s (engines.band_gap.max_seconds: 10)", True),
            ("kill", "killed by SIGKILL", True),
            ("exit", "GPAW failed", True),
            (NO_MEMORY, "MemoryError", True),
            (UNCONVERGED, "did not converge", False),
        ],
    )
    def test_have_missing_ordering_and_reason(self, compute, answer, reason, is_retryable):
        result, _ = compute(AFM_converge=answer)
        assert (result.band_gap, result.magnetic_order) == (1.3, "FM")
        assert not result.is_complete
        assert result.reason.startswith("missing magnetic ordering AFM: GPAW")
        assert reason in result.reason
        assert result.is_retryable == is_retryable
        assert BandGapResult.model_validate_json(result.model_dump_json()) == result

    @pytest.mark.parametrize("answer", ["kill", "exit", NO_MEMORY])
    def test_only_missing_ordering_is_computed(self, compute, answer):
        first, _ = compute(AFM_converge=answer)
        result, calls = compute(first)
        assert calls == ["AFM converge", "AFM gap"]
        assert result.is_complete
        assert result.reason is None
        assert (result.band_gap, result.magnetic_order) == (2.5, "AFM")
        assert [order.start for order in result.magnetic_orders] == ["AFM", "FM"]

    def test_gap_is_kept_if_missing_ordering_is_higher(self, compute):
        first, _ = compute(AFM_converge="kill")
        result, calls = compute(first, AFM_converge=ABOVE_FM)
        assert calls == ["AFM converge"]
        assert result.is_complete
        assert (result.band_gap, result.magnetic_order, result.nsites) == (1.3, "FM", 2)

    def test_gap_stays_incomplete_if_ordering_fails_again(self, compute):
        first, _ = compute(AFM_converge="kill")
        result, calls = compute(first, AFM_converge=UNCONVERGED)
        assert calls == ["AFM converge"]
        assert (result.band_gap, result.is_complete) == (1.3, False)
        assert not result.is_retryable
        unchanged, calls = compute(result)
        assert calls == []
        assert (unchanged.band_gap, unchanged.is_complete) == (1.3, False)

    def test_missing_first_ordering_is_computed(self, compute):
        first, _ = compute(FM_converge="kill")
        assert (first.band_gap, first.is_complete) == (2.5, False)
        result, calls = compute(first)
        assert calls == ["FM converge"]
        assert (result.band_gap, result.magnetic_order, result.is_complete) == (2.5, "AFM", True)

    def test_gap_is_dropped_if_hybrid_of_lower_ordering_fails(self, compute):
        first, _ = compute(AFM_converge="kill")
        result, _ = compute(first, AFM_gap="kill")
        assert result.band_gap is None
        assert result.is_retryable
        assert [order.energy_per_atom for order in result.magnetic_orders] == [-7.1, -7.0]
        last, calls = compute(result)
        assert calls == ["AFM converge", "AFM gap"]
        assert (last.band_gap, last.is_complete) == (2.5, True)

    def test_all_is_computed_again_with_another_gpaw_version(self, compute):
        first, _ = compute(AFM_converge="kill")
        orders = [order.model_dump() | {"gpaw_version": "1.0"} for order in first.magnetic_orders]
        result, calls = compute(
            BandGapResult.model_validate(first.model_dump() | {"magnetic_orders": orders})
        )
        assert calls == ["FM converge", "AFM converge", "AFM gap"]
        assert result.is_complete

    def test_gap_is_kept_without_gpaw(self, compute, monkeypatch):
        first, _ = compute(AFM_converge="kill")
        monkeypatch.setattr(gpaw, "availability", lambda *_: "GPAW is not installed")
        assert compute(first) == (first, [])

    def test_stopped_gap_is_computed_by_next_run(self, compute):
        first, calls = compute(FM_converge="sleep")
        assert calls == ["FM converge"], "the time limit is reached"
        assert first.band_gap is None
        assert "max_seconds: 10" in first.reason
        assert first.is_retryable
        result, calls = compute(first)
        assert calls == ["FM converge", "AFM converge", "AFM gap"]
        assert (result.band_gap, result.is_complete) == (2.5, True)


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

    interrupting = tmp_path / "interrupting.py"
    interrupting.write_text(
        "import os, signal, sys\n"
        "if '/AFM/' in sys.argv[-1]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import subprocess\n"
        "task = sys.argv[-1]\n"
        "text = open(task).read().replace('\"is_parallel\": true', '\"is_parallel\": false')\n"
        "open(task, 'w').write(text)\n"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    first = run("first", mpi_command=(sys.executable, str(interrupting)))
    assert (first.magnetic_order, first.is_complete) == ("FM", False)
    assert first.reason.startswith("missing magnetic ordering AFM: GPAW was killed by SIGKILL")
    second = run("second", first)
    assert second.is_complete
    assert [order.start for order in second.magnetic_orders] == ["AFM", "FM"]
    assert second.magnetic_orders[1] == first.magnetic_orders[0]
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
    assert "max_seconds: 1" in result.reason
    assert [order.start for order in result.magnetic_orders] == ["given"]
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
