from __future__ import annotations

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

from gan_htvs.core.errors import UserError
from gan_htvs.core.relaxation_result import Ending, RelaxationResult
from gan_htvs.potentials.relaxation import RelaxationCache, Relaxations, relax_many
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work, relax
from gan_htvs.structures.validity import check_geometry
from tests.helpers import rocksalt

SETTINGS = PotentialSettings(fmax=0.1, max_steps=100)
MGO_VOLUME, MGO_ENERGY = 18.75 / 2, -6.314
"""A^3/atom, experiment; eV/atom, CHGNet 0.3.0 with its model's own relaxer."""


def test_magnesia_relaxes_to_its_known_energy_and_volume():
    relaxed = relax(rocksalt(length=4.35), SETTINGS).relaxed
    assert relaxed.converged
    assert relaxed.energy_per_atom == pytest.approx(MGO_ENERGY, abs=0.005)
    assert relaxed.structure.volume / 2 == pytest.approx(MGO_VOLUME, rel=0.03)
    assert relaxed.level_of_theory == "CHGNet-0.3.0"
    assert len(relaxed.magmoms) == 2


def test_arithmetic_is_left_as_it_was():
    relax(rocksalt(), SETTINGS)
    assert np.float64(5e-324) * 1.0 > 0, "subnormal numbers are numbers again"


def test_a_fall_into_a_hole_of_the_potential_ends_early(monkeypatch):
    # Minimum at 0.22 A: everything falls together, as in a hole of a potential.
    hole = LennardJones(sigma=0.2, epsilon=1000.0, rc=6.0)
    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: hole)
    settings = SETTINGS.model_copy(update={"max_steps": 300, "fmax": 1e-9})
    relaxed = relax(rocksalt().perturb(0.05, seed=0), settings).relaxed
    assert check_geometry(relaxed.structure) is not None
    assert not relaxed.converged
    assert relaxed.n_steps < 300
    assert relaxed.magmoms is None


def test_numbers_that_are_not_finite_are_no_result(monkeypatch):
    class Broken(LennardJones):
        def calculate(self, *arguments, **settings):
            raise ValueError("array must not contain infs or NaNs")

    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Broken())
    assert relax(rocksalt(), SETTINGS).relaxed is None


@pytest.mark.parametrize("quantity", ["energy", "forces"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_ends_the_relaxation(monkeypatch, quantity, value):
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


def test_a_journal_remembers_and_a_broken_line_costs_one_result(tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    structures = [rocksalt(), rocksalt("Mn", 4.5), rocksalt()]
    first = Relaxations(SETTINGS, journal=journal).relax(structures)
    lines = journal.read_text().splitlines()
    assert len(lines) == 2, "equal structures are relaxed once"
    assert first[0] == first[2]

    journal.write_bytes(f"{lines[0]}\n{lines[1][: len(lines[1]) // 2]}".encode() + b"\xff")
    seen = []
    again = Relaxations(SETTINGS, journal=journal)
    second = again.relax(structures, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert [r.energy_per_atom for r in second] == pytest.approx([r.energy_per_atom for r in first])
    assert second[0].structure == first[0].structure
    lines = journal.read_text(errors="replace").splitlines()
    whole = [json.loads(line)["key"] for line in lines if "}}" in line]
    assert len(set(whole)) == 2


def test_settings_are_part_of_what_is_remembered(tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    Relaxations(SETTINGS, journal=journal).relax([rocksalt()])
    looser = SETTINGS.model_copy(update={"fmax": 0.5})
    seen = []
    Relaxations(looser, journal=journal).relax([rocksalt()], on_progress=lambda *n: seen.append(n))
    assert seen[0] == (0, 1)


def test_an_unwritable_journal_is_told_in_one_sentence(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Relaxations(SETTINGS, journal=blocked / "relaxations.jsonl").relax([rocksalt()])
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        Relaxations(SETTINGS, journal=tmp_path)


BROKEN = RelaxationResult(ending=Ending.RAISED, reason="the potential raised: no")


@pytest.mark.parametrize("line", ["5", "[]", '{"key": 5}', '{"result": null}', "{", "\xff"])
def test_a_line_that_is_no_result_is_left_out(tmp_path, line):
    path = tmp_path / "relaxations.jsonl"
    path.write_text(f"{line}\n")
    RelaxationCache(path).add("a", BROKEN)
    cache = RelaxationCache(path)
    assert cache.get("a") == BROKEN
    assert cache.get("5") is None


def test_a_cache_without_a_file_keeps_results_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = RelaxationCache()
    cache.hold()
    cache.add("a", BROKEN)
    assert cache.get("a") == BROKEN
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_held_is_refused_to_another_and_read_again(tmp_path):
    path = tmp_path / "relaxations.jsonl"
    one, two = RelaxationCache(path), RelaxationCache(path)
    one.add("a", BROKEN)
    two.hold()
    assert two.get("a") == BROKEN
    with pytest.raises(UserError, match="another command writes here"):
        one.hold()


def test_equal_work_is_done_once_and_cached_work_not_at_all():
    cache, seen = RelaxationCache(), []
    work = {
        "one": Work(rocksalt(), SETTINGS),
        "same": Work(rocksalt(), SETTINGS, None, audited=False),
        "stopped": Work(rocksalt(), SETTINGS, lambda _: "enough"),
    }
    first = relax_many(
        {name: work[name] for name in ("one", "same")}, cache, on_progress=lambda *n: seen.append(n)
    )
    assert seen == [(0, 1), (1, 1)]
    assert first["one"] == first["same"]
    assert first["one"].ending is Ending.CONVERGED
    assert relax_many({}, cache) == {}
    again = relax_many({"any name": work["one"]}, cache, on_progress=lambda *n: seen.append(n))
    assert seen[2:] == [(1, 1)]
    assert again["any name"] == first["one"]


def test_a_failure_is_cached_but_not_that_of_a_reference_phase(monkeypatch):
    class Broken(LennardJones):
        def calculate(self, *arguments, **settings):
            raise MemoryError("no memory")

    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Broken())
    cache = RelaxationCache()
    candidate = {"candidate": Work(rocksalt(), SETTINGS)}
    phase = {"phase": Work(rocksalt(), SETTINGS, is_reference=True)}
    assert relax_many(candidate, cache)["candidate"].ending is Ending.RAISED
    assert relax_many(phase, cache)["phase"].ending is Ending.RAISED
    works = LennardJones(sigma=2.0, epsilon=0.05, rc=5)
    monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: works)
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


def test_one_process_at_a_time_relaxes_with_a_journal(tmp_path):
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
        with pytest.raises(UserError, match=r"relaxations\.jsonl: another command writes here"):
            early.relax([magnesia])
        assert Relaxations(SETTINGS, journal=journal).relax([magnesia])[0].converged
        other.kill()
    before = journal.read_text()
    seen = []
    assert early.relax([magnesia], on_progress=lambda *n: seen.append(n))[0].converged
    assert seen == [(1, 1)], "what the other one did is known"
    assert journal.read_text() == before


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that has may be left as a zombie by process 1."""
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
def test_a_run_that_is_stopped_leaves_no_process_and_loses_nothing(tmp_path, end):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a background job ignores
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
