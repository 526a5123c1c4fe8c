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

from gan_htvs.descent import Ending, descend
from gan_htvs.engines import EnergyEngineSettings
from gan_htvs.errors import UserError
from gan_htvs.relaxation import Relaxations
from gan_htvs.validity import check_geometry

SETTINGS = EnergyEngineSettings(fmax=0.1, max_steps=100)
MGO_VOLUME, MGO_ENERGY = 18.75 / 2, -6.314
"""A^3/atom, experiment; eV/atom, CHGNet 0.3.0 with its model's own relaxer."""


def rocksalt(cation: str = "Mg", length: float = 4.3) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def test_magnesia_relaxes_to_its_known_energy_and_volume():
    relaxed = descend(rocksalt(length=4.35), SETTINGS).relaxed
    assert relaxed.converged
    assert relaxed.energy_per_atom == pytest.approx(MGO_ENERGY, abs=0.005)
    assert relaxed.structure.volume / 2 == pytest.approx(MGO_VOLUME, rel=0.03)
    assert relaxed.level_of_theory == "CHGNet-0.3.0"
    assert len(relaxed.magmoms) == 2


def test_arithmetic_is_left_as_it_was():
    descend(rocksalt(), SETTINGS)
    assert np.float64(5e-324) * 1.0 > 0, "subnormal numbers are numbers again"


def test_a_fall_into_a_hole_of_the_potential_ends_early(monkeypatch):
    # Minimum at 0.22 A: everything falls together, as in a hole of a potential.
    hole = LennardJones(sigma=0.2, epsilon=1000.0, rc=6.0)
    monkeypatch.setattr("gan_htvs.descent.calculator_of", lambda name: hole)
    settings = SETTINGS.model_copy(update={"max_steps": 300, "fmax": 1e-9})
    relaxed = descend(rocksalt().perturb(0.05, seed=0), settings).relaxed
    assert check_geometry(relaxed.structure) is not None
    assert not relaxed.converged
    assert relaxed.n_steps < 300
    assert relaxed.magmoms is None


def test_numbers_that_are_not_finite_are_no_result(monkeypatch):
    class Broken(LennardJones):
        def calculate(self, *arguments, **settings):
            raise ValueError("array must not contain infs or NaNs")

    monkeypatch.setattr("gan_htvs.descent.calculator_of", lambda name: Broken())
    assert descend(rocksalt(), SETTINGS).relaxed is None


@pytest.mark.parametrize("quantity", ["energy", "forces"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_ends_the_relaxation(monkeypatch, quantity, value):
    class Overflowing(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.n_calls = getattr(self, "n_calls", 0) + 1
            if self.n_calls > 2:
                self.results[quantity] = self.results[quantity] * 0 + value

    monkeypatch.setattr("gan_htvs.descent.calculator_of", lambda name: Overflowing(sigma=2.0))
    descent = descend(rocksalt(), SETTINGS)
    assert (descent.ending, descent.relaxed) == (Ending.RAISED, None)
    for values in (descent.curve.energies, descent.curve.max_forces, descent.curve.volumes):
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
    with pytest.raises(UserError, match="cannot be used"):
        Relaxations(SETTINGS, journal=blocked / "relaxations.jsonl").relax([rocksalt()])
    with pytest.raises(UserError, match="cannot be used: Is a directory"):
        Relaxations(SETTINGS, journal=tmp_path)


@pytest.mark.parametrize("line", ["5", "[]", '{"key": 5}', '{"relaxed": null}', "{"])
def test_a_line_that_is_no_result_is_left_out(tmp_path, line):
    journal = tmp_path / "relaxations.jsonl"
    journal.write_text(f'{line}\n{{"key": "a", "relaxed": null}}\n')
    assert Relaxations(SETTINGS, journal=journal)._known == {"a": None}


HOLDER = """
from pathlib import Path
from pymatgen.core import Lattice, Structure
from gan_htvs.engines import EnergyEngineSettings
from gan_htvs.relaxation import Relaxations

structure = Structure(Lattice.rhombohedral(3.04, 60), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
relaxations = Relaxations(
    EnergyEngineSettings(fmax=0.1, max_steps=100), journal=Path("relaxations.jsonl")
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
        with pytest.raises(UserError, match=r"relaxations\.jsonl: another command relaxes"):
            early.relax([magnesia])
        assert Relaxations(SETTINGS, journal=journal).relax([magnesia])[0].converged
        other.kill()
    before = journal.read_text()
    seen = []
    assert early.relax([magnesia], on_progress=lambda *n: seen.append(n))[0].converged
    assert seen == [(1, 1)], "what the other one did is known"
    assert journal.read_text() == before


PROGRAM = """
from pathlib import Path
from pymatgen.core import Lattice, Structure
from gan_htvs.engines import EnergyEngineSettings
from gan_htvs.relaxation import Relaxations

if __name__ == "__main__":
    structures = [
        Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(4.0 + 0.02 * i), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        for i in range(40)
    ]
    relaxations = Relaxations(EnergyEngineSettings(), journal=Path("j.jsonl"), n_processes=2)
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
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) >= 2
