"""The scripts in examples/ run without changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pymatgen.core import Structure

from launchers.launchpad.database import open_databases

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder and return what it prints."""

    def run_example(name: str, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", str(EXAMPLES / name), *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"GAN_HTVS_SCRATCH": str(tmp_path), "PYTHONPATH": str(EXAMPLES.parent)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run_example


def test_all_examples_are_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "evaluate.py",
        "own_structures.py",
        "query.py",
        "sample.py",
        "stability.py",
        "vasp_flow.py",
    }


def test_own_structures(run):
    output = run("own_structures.py")
    hull = [float(value) for value in re.findall(r"energy above hull +(-?[\d.]+) eV", output)]
    assert hull == pytest.approx([0, 0.12], abs=0.02)
    pourbaix = re.findall(r"Pourbaix decomposition energy +([\d.]+) eV", output)
    assert float(pourbaix[1]) - float(pourbaix[0]) == pytest.approx(hull[1] - hull[0], abs=0.002)
    stable, metastable = re.findall(r"^  band gap +(\S+) eV", output, re.MULTILINE)
    assert 4.5 < float(stable) < 6.5
    assert metastable == "None", "too far above the hull for a band gap"


def test_own_structures_is_short():
    code = (EXAMPLES / "own_structures.py").read_text().splitlines()
    statements = [
        line for line in code if line and not line.startswith(("#", '"""', "from", "import"))
    ]
    assert len(statements) <= 15


def test_sample(run, tmp_path):
    output = run("sample.py").splitlines()
    structures = [Structure.from_file(tmp_path / f"{line.split()[0]}.cif") for line in output]
    assert [structure.formula for structure in structures] == ["Mg1 Mn2 O4"] * 10


def test_evaluate(run):
    output = run("evaluate.py")
    energies = [float(value) for value in re.findall(r"sound (-?[\d.]+) eV/atom", output)]
    assert energies == pytest.approx([0, 0.12, 0.65, 0.12], abs=0.03)
    assert output.count("novel: True") == 3
    assert "within 0.2 eV/atom: stable 3/4, S.U.N. 1" in output
    assert "prototypes: 3" in output


def test_stability(run):
    output = run("stability.py")
    assert re.search(r"decomposition energy -0\.0\d\d eV/atom", output)
    assert re.search(r"Pourbaix decomposition energy 0\.\d+ eV/atom, pH \d", output)


def test_query(run, launchpad_file):
    candidates = [("MgMn2O4", 0.07, "gan"), ("MgO", 0.2, "gan"), ("MnO", 0.0, "reference_phase")]
    with open_databases(launchpad_file) as databases:
        with databases.store("candidates", key="candidate_id") as store:
            documents = [
                {
                    "candidate_id": formula,
                    "formula_pretty": formula,
                    "energy_above_hull": energy,
                    "origin": {"proposer": proposer},
                }
                for formula, energy, proposer in candidates
            ]
            store.update(documents)
        assert run("query.py", str(launchpad_file)) == "MgMn2O4 0.070 eV/atom\n"


def test_vasp_flow(run, tmp_path):
    assert "168 jobs" in run("vasp_flow.py")
    composition = (tmp_path / "composition.mmd").read_text()
    assert composition.startswith("flowchart TD")
    assert composition.count("(prescreen) -->|proposals|") == 3
    candidate = (tmp_path / "candidate.mmd").read_text()
    assert "(AFM relax 2 MnO) -->|output|" in candidate
