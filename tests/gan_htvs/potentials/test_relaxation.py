from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import psutil
import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import Ending, RelaxationResult
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.relaxation import RelaxationCache, Relaxations, relax_many
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work, relax
from gan_htvs.structures.symmetry import symmetry_of
from gan_htvs.structures.validity import check_geometry
from tests.helpers import rocksalt

SETTINGS = PotentialSettings(fmax=0.1, max_steps=100)
MGO_VOLUME, MGO_ENERGY = 18.75 / 2, -6.314
"""A^3/atom, experiment; eV/atom, CHGNet 0.3.0 with the relaxer of its package."""


def test_energy_and_volume_of_magnesia():
    relaxed = relax(rocksalt(length=4.35), SETTINGS).relaxed
    assert relaxed.converged
    assert relaxed.energy_per_atom == pytest.approx(MGO_ENERGY, abs=0.005)
    assert relaxed.structure.volume / 2 == pytest.approx(MGO_VOLUME, rel=0.03)
    assert relaxed.level_of_theory == "CHGNet-0.3.0"
    assert len(relaxed.magmoms) == 2


def test_subnormal_numbers_after_a_relaxation():
    relax(rocksalt(), SETTINGS)
    assert np.float64(5e-324) * 1.0 > 0


def test_collapse_ends_the_relaxation(monkeypatch):
    # With a minimum at 0.22 A the structure collapses, as in a hole of a potential.
    hole = LennardJones(sigma=0.2, epsilon=1000.0, rc=6.0)
    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: hole)
    settings = SETTINGS.model_copy(update={"max_steps": 300, "fmax": 1e-9})
    relaxed = relax(rocksalt().perturb(0.05, seed=0), settings).relaxed
    assert check_geometry(relaxed.structure) is not None
    assert not relaxed.converged
    assert relaxed.n_steps < 300
    assert relaxed.magmoms is None


def test_error_of_the_potential_has_no_result(monkeypatch):
    class Broken(LennardJones):
        def calculate(self, *arguments, **settings):
            raise ValueError("array must not contain infs or NaNs")

    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Broken())
    assert relax(rocksalt(), SETTINGS).relaxed is None


@pytest.mark.parametrize("quantity", ["energy", "forces"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_not_finite_end_the_relaxation(monkeypatch, quantity, value):
    class Overflowing(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.n_calls = getattr(self, "n_calls", 0) + 1
            if self.n_calls > 2:
                self.results[quantity] = self.results[quantity] * 0 + value

    monkeypatch.setattr(
        "gan_htvs.potentials.relaxer.calculator_of", lambda name: Overflowing(sigma=2.0)
    )
    relaxation = relax(rocksalt(), SETTINGS)
    assert (relaxation.ending, relaxation.relaxed) == (Ending.RAISED, None)
    for values in (
        relaxation.curve.energies,
        relaxation.curve.max_forces,
        relaxation.curve.volumes,
    ):
        assert len(values) >= 1
        assert np.isfinite(values).all()


def test_cache_file_with_a_damaged_line(tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    structures = [rocksalt(), rocksalt("Mn", 4.5), rocksalt()]
    first = Relaxations(SETTINGS, journal=journal).relax(structures)
    lines = journal.read_text().splitlines()
    assert len(lines) == 2, "equal structures are relaxed once"
    assert first[0] == first[2]

    journal.write_bytes(f"{lines[0]}\n{lines[1][: len(lines[1]) // 2]}".encode() + b"\xff")
    progress = []
    second = Relaxations(SETTINGS, journal=journal).relax(
        structures, on_progress=lambda done, total: progress.append((done, total))
    )
    assert progress == [(1, 2), (2, 2)]
    assert [r.energy_per_atom for r in second] == pytest.approx([r.energy_per_atom for r in first])
    assert second[0].structure == first[0].structure
    lines = journal.read_text(errors="replace").splitlines()
    keys = [json.loads(line)["key"] for line in lines if "}}" in line]
    assert len(set(keys)) == 2


def test_cache_depends_on_settings(tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    Relaxations(SETTINGS, journal=journal).relax([rocksalt()])
    looser = SETTINGS.model_copy(update={"fmax": 0.5})
    progress = []
    Relaxations(looser, journal=journal).relax(
        [rocksalt()], on_progress=lambda *n: progress.append(n)
    )
    assert progress[0] == (0, 1)


def test_symmetrization_of_candidates_and_references_is_cached(tmp_path):
    distorted = (rocksalt(length=4.25) * (2, 1, 1)).perturb(0.05, seed=0)
    path = tmp_path / "relaxations.jsonl"
    work = {
        str(is_reference): Work(distorted, SETTINGS, is_reference=is_reference)
        for is_reference in (False, True)
    }
    first = relax_many(work, RelaxationCache(path))
    again = relax_many(work, RelaxationCache(path))
    candidate, phase = (first[name].relaxed for name in work)
    assert candidate.symmetrization.energy_change <= 1e-5
    assert candidate.symmetrization == phase.symmetrization
    assert candidate.energy_per_atom == pytest.approx(phase.energy_per_atom, abs=1e-6)
    assert symmetry_of(candidate.structure, 0.001).symbol == "Fm-3m"
    assert again["False"].relaxed.symmetrization == candidate.symmetrization
    assert len(path.read_text().splitlines()) == 2


def test_unwritable_cache_file_is_a_user_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Relaxations(SETTINGS, journal=blocked / "relaxations.jsonl").relax([rocksalt()])
    with pytest.raises(UserError, match="Is a directory"):
        Relaxations(SETTINGS, journal=tmp_path)


FAILED = RelaxationResult(ending=Ending.RAISED, reason="the potential raised: no")


@pytest.mark.parametrize("line", ["5", "[]", '{"key": 5}', '{"result": null}', "{", "\xff"])
def test_invalid_lines_are_ignored(tmp_path, line):
    path = tmp_path / "relaxations.jsonl"
    path.write_text(f"{line}\n")
    RelaxationCache(path).add("a", FAILED)
    cache = RelaxationCache(path)
    assert cache.get("a") == FAILED
    assert cache.get("5") is None


def test_cache_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = RelaxationCache()
    cache.hold()
    cache.add("a", FAILED)
    assert cache.get("a") == FAILED
    assert list(tmp_path.iterdir()) == []


def test_lock_of_a_cache_file(tmp_path):
    path = tmp_path / "relaxations.jsonl"
    first, second = RelaxationCache(path), RelaxationCache(path)
    first.add("a", FAILED)
    second.hold()
    assert second.get("a") == FAILED
    with pytest.raises(UserError, match=r"relaxations\.jsonl"):
        first.hold()


def test_cache_on_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "relaxations.jsonl"
    cache = RelaxationCache(path)
    cache.hold()
    cache.add("a", FAILED)
    assert RelaxationCache(path).get("a") == FAILED


def test_equal_work_is_done_once():
    cache, progress = RelaxationCache(), []
    work = {
        "first": Work(rocksalt(), SETTINGS),
        "equal": Work(rocksalt(), SETTINGS, None, audited=False),
        "stopped": Work(rocksalt(), SETTINGS, lambda _: "enough"),
    }
    first = relax_many(
        {name: work[name] for name in ("first", "equal")},
        cache,
        on_progress=lambda *n: progress.append(n),
    )
    assert progress == [(0, 1), (1, 1)]
    assert first["first"] == first["equal"]
    assert first["first"].ending is Ending.CONVERGED
    assert relax_many({}, cache) == {}
    again = relax_many(
        {"any name": work["first"]}, cache, on_progress=lambda *n: progress.append(n)
    )
    assert progress[2:] == [(1, 1)]
    assert again["any name"] == first["first"]


def test_failures_of_reference_phases_are_not_cached(monkeypatch):
    class Broken(LennardJones):
        def calculate(self, *arguments, **settings):
            raise MemoryError("no memory")

    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Broken())
    cache = RelaxationCache()
    candidate = {"candidate": Work(rocksalt(), SETTINGS)}
    phase = {"phase": Work(rocksalt(), SETTINGS, is_reference=True)}
    assert relax_many(candidate, cache)["candidate"].ending is Ending.RAISED
    assert relax_many(phase, cache)["phase"].ending is Ending.RAISED
    working = LennardJones(sigma=2.0, epsilon=0.05, rc=5)
    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: working)
    assert relax_many(candidate, cache)["candidate"].ending is Ending.RAISED
    assert relax_many(phase, cache)["phase"].ending is not Ending.RAISED


HOLDER = """
from pathlib import Path
from pymatgen.core import Lattice, Structure
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxation import Relaxations

structure = Structure(Lattice.rhombohedral(3.04, 60), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
relaxations = Relaxations(
    PotentialSettings(fmax=0.1, max_steps=100), journal=Path("relaxations.jsonl")
)
relaxations.relax([structure])
print("relaxed", flush=True)
input()
"""


def test_cache_file_is_locked_by_another_process(tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    magnesia = Structure(Lattice.rhombohedral(3.04, 60), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    early = Relaxations(SETTINGS, journal=journal)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as other:
        assert other.stdout.readline() == "relaxed\n"
        with pytest.raises(UserError, match=r"relaxations\.jsonl"):
            early.relax([magnesia])
        assert Relaxations(SETTINGS, journal=journal).relax([magnesia])[0].converged
        other.kill()
    before = journal.read_text()
    progress = []
    assert early.relax([magnesia], on_progress=lambda *n: progress.append(n))[0].converged
    assert progress == [(1, 1)]
    assert journal.read_text() == before


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is running, and not a zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


PROGRAM = """
from pathlib import Path
from pymatgen.core import Lattice, Structure
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxation import Relaxations

if __name__ == "__main__":
    structures = [
        Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(4.0 + 0.02 * i), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        for i in range(40)
    ]
    relaxations = Relaxations(PotentialSettings(), journal=Path("j.jsonl"), n_processes=2)
    relaxations.relax(structures, on_progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run_ends_its_processes_and_keeps_results(tmp_path, end):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    run = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while int(run.stdout.readline()) < 2:
        pass
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    run.send_signal(end)
    run.wait(timeout=20)
    assert not any(map(is_alive, psutil.wait_procs(children, timeout=10)[1]))
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) >= 2
