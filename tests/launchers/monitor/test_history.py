from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.core.candidate import (
    Candidate,
    Confirmation,
    Curve,
    Ending,
    Novelty,
    Origin,
    PrescreenVerdict,
    RelaxationResult,
    RelaxedStructure,
    Screened,
    Symmetrization,
    Verdict,
)
from gan_htvs.core.document import encode
from gan_htvs.core.stages import ScreeningStep, Stage
from gan_htvs.structures.symmetry import symmetry_of
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.monitor.history import BLOCKS, LONGEST_SPARKLINE, sparkline
from tests.helpers import proposal, rocksalt

MNO = Structure(Lattice.cubic(4.44), ["Mn", "Mn", "O", "O"], [[x / 4, 0, 0] for x in range(4)])
RELAXED = RelaxedStructure(
    structure=MNO,
    energy_per_atom=-8.25,
    level_of_theory="CHGNet-0.3.0",
    converged=True,
    magmoms=[4.5, -4.5, 0.125, 0.0],
    n_steps=2,
    volume_change=-0.123,
)
CURVE = Curve(energies=[-7.0, -8.0, -8.25], max_forces=[2.0, 0.5, 0.05], volumes=[12, 11, 10.5])
PRESCREEN = PrescreenVerdict(
    rejected_at=ScreeningStep.CONFIRMATION,
    level_of_theory="CHGNet-0.3.0",
    decomposition_energy=0.05,
    confirmation=Confirmation(
        level_of_theory="SevenNet-0",
        energy_per_atom=-8.1,
        decomposition_energy=0.2,
        disagreement=0.15,
        n_steps=20,
        cpu_seconds=1.0,
    ),
    n_steps=2,
    volume_change=-0.123,
    would_stop_at=1,
    is_audited=True,
)


def candidate(candidate_id="a", prescreen=PRESCREEN, **fields):
    origin = {"proposer": "gan", "requested_composition": "Mn2O2", "index": 3}
    fields = {"stage": Stage.REJECTED, "is_remade": False, "max_displacement": 0.75} | fields
    displacement = {key: fields.pop(key) for key in ("is_remade", "max_displacement")}
    return Candidate(
        candidate_id=candidate_id,
        campaign="search",
        origin=Origin(**origin, **displacement),
        formula_pretty="MnO",
        chemsys="Mn-O",
        nsites=4,
        generated_structure=MNO,
        prescreen=prescreen,
        last_updated=datetime.now(UTC),
        **fields,
    )


@pytest.fixture
def show(launchpad_file):
    """Store the documents of a candidate and run ``gan-htvs show``."""

    def call(*arguments, stored, relaxed=None):
        proposed = proposal("a", MNO)
        verdict = Verdict(**dict(proposed), stage="synthesizable", relaxed=relaxed)
        proposed.prescreen = PRESCREEN
        proposed.relaxation = RelaxationResult(
            ending=Ending.CONVERGED, relaxed=RELAXED, curve=CURVE
        )
        outputs = {"gate": verdict}
        if stored.prescreen is not None:
            outputs["prescreen"] = Screened(proposals=[proposed])
        with open_databases(launchpad_file) as databases:
            with databases.store("candidates", key="candidate_id") as candidates:
                candidates.update([encode(stored)])
            with databases.store("outputs", key="uuid") as store:
                store.update(
                    [
                        {
                            "uuid": f"{step} of a",
                            "metadata": {"campaign": "search", "step": step, "candidate_id": "a"},
                            "output": encode(output),
                        }
                        for step, output in outputs.items()
                    ]
                )
        return CliRunner().invoke(app, ["show", *arguments, "-l", str(launchpad_file)])

    return call


def lines(result):
    assert result.exit_code == 0, result.output
    output = [" ".join(line.split()) for line in result.output.splitlines()]
    return [line for line in output if line]


def test_provenance_of_rejected_candidate(show):
    reason = "confirmation: the potentials disagree"
    disagreement = "disagreement +0.150 eV/atom, after 20 steps"
    output = lines(show("a", stored=candidate(reason=reason)))
    assert output[0] == "MnO a of search"
    for line in (
        "stage rejected",
        f"reason {reason}",
        "origin gan, Mn2O2",
        "overlap removal moved an atom by up to 0.75 A",
        "prescreen rejected: confirmation, after 2 steps",
        "audit early stopping at step 1",
        "CHGNet-0.3.0 -8.250 eV/atom, 0.050 eV/atom above hull",
        f"SevenNet-0 -8.100 eV/atom, 0.200 eV/atom above hull; {disagreement}",
        "energy -7.000 █▂▁ -8.250 eV/atom",
        "volume 12.000 █▃▁ 10.500 A^3/atom",
        "volume change -12.3%",
        "moments Mn 4.50, Mn -4.50, O 0.12, O 0.00; total 0.1 Bohr magnetons",
    ):
        assert line in output


def test_provenance_has_space_groups_and_the_symmetrization(show):
    copy = Symmetrization(tolerance=0.2, max_displacement=0.034, n_steps=1, energy_change=-0.0004)
    groups = {
        name: symmetry_of(structure, symprec)
        for name, structure, symprec in (
            ("generated_symmetry", MNO.copy().perturb(0.5, seed=0), 0.1),
            ("symmetry", rocksalt(), 0.1),
            ("tight_symmetry", rocksalt().perturb(0.02, seed=0), 0.01),
        )
    }
    stored = candidate(structure=rocksalt(), **groups)
    relaxed = RELAXED.model_copy(update={"symmetrization": copy})
    output = lines(show("a", stored=stored, relaxed=relaxed))
    tight, proposed = (
        f"{groups[name].symbol} ({groups[name].number}) at {symprec} A"
        for name, symprec in (("tight_symmetry", 0.01), ("generated_symmetry", 0.1))
    )
    for line in (
        f"space group Fm-3m (225) at 0.1 A, {tight}; as proposed {proposed}",
        "symmetrized copy at 0.2 A: atoms moved by up to 0.03 A, -0.0004 eV/atom after 1 step",
    ):
        assert line in output


def test_provenance_warns_of_an_incomplete_hull(show):
    output = lines(show("a", stored=candidate(uncovered_subsystems=["Mn-O"])))
    assert any(line.startswith("hull The hull is incomplete") for line in output)


def test_provenance_includes_checkpoint_seed_and_jobs(show, launchpad_file):
    spec = {"campaign": "search", "_tasks": [{"job": {"uuid": "other"}}]}
    gate = {"spec": spec | {"step": "gate", "candidate_id": "a"}, "launches": [1, 2]}
    batch = {"spec": spec | {"step": "prescreen", "_tasks": [{"job": {"uuid": "prescreen of a"}}]}}
    sampling = {"spec": spec | {"step": "propose", "_tasks": [{"job": {"uuid": "sample"}}]}}
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        jobs = [sampling, batch, gate, gate | {"spec": gate["spec"] | {"candidate_id": "b"}}]
        states = ["COMPLETED", "COMPLETED", "FIZZLED", "COMPLETED"]
        db["fireworks"].insert_many(
            [
                {"launches": []}
                | job
                | {"fw_id": i, "state": state, "name": f"job {i}", "updated_on": "2026-11-30"}
                for i, (job, state) in enumerate(zip(jobs, states, strict=True), 1)
            ]
        )
        db["launches"].insert_many(
            [{"launch_id": i, "host": "node7", "launch_dir": f"/runs/{i}"} for i in (1, 2)]
        )
        with databases.store("outputs", key="uuid") as outputs:
            outputs.update(
                {
                    "uuid": "sample",
                    "metadata": {"campaign": "search", "step": "propose"},
                    "output": {"proposals": [{"candidate_id": "b"}, {"candidate_id": "a"}]},
                }
            )
    sampled = Origin(
        proposer="gan", requested_composition="Mn2O2", index=3, seed=7, checkpoint="c0ffee" * 10
    )
    stored = candidate().model_copy(update={"origin": sampled})
    output = lines(show("a", stored=stored))
    assert "origin gan, Mn2O2, sample 3 of seed 7" in output
    assert f"checkpoint sha256 {'c0ffee' * 10}" in " ".join(output)
    assert output[-3:] == [
        "job 1 propose: not launched yet",
        "job 2 prescreen: not launched yet",
        "job 3 gate, fizzled: node7:/runs/2",
    ]
    document = json.loads(show("a", "--json", stored=stored).output)
    assert [job["folder"] for job in document["jobs"]] == [None, None, "node7:/runs/2"]


def test_evaluated_structure_replaces_that_of_the_prescreen(show):
    by_vasp = RELAXED.model_copy(
        update={"magmoms": [4.0, 4.0, 0.0, 0.0], "volume_change": 0.02, "level_of_theory": "PBE+U"}
    )
    stored = candidate(
        prescreen=PRESCREEN.model_copy(update={"rejected_at": None}),
        stage="synthesizable",
        is_remade=True,
        level_of_theory="PBE+U",
        energy_per_atom=-9.0,
        energy_above_hull=0.0,
        decomposition_energy=-0.021,
        reference_decomposition_energy=-0.034,
        decomposes_to={"MnO rocksalt": 2 / 3, "O2": 0.2, "Mn alpha": 2 / 15},
        novelty=Novelty(is_novel=False, reference_match="MnO rocksalt"),
    )
    output = lines(show("a", stored=stored, relaxed=by_vasp))
    assert "overlap removal replaced all coordinates" in output
    assert "prescreen passed, after 2 steps" in output
    assert "volume change +2.0%" in output
    assert "moments Mn 4.00, Mn 4.00, O 0.00, O 0.00; total 8.0 Bohr magnetons" in output
    for line in (
        "PBE+U, final -9.000 eV/atom, 0.000 eV/atom above hull",
        "decomposition energy -0.021 eV/atom",
        "reference decomposition energy -0.034 eV/atom",
        "competing phases 67% MnO rocksalt, 20% O2, 13% Mn alpha",
        "same as reference phase MnO rocksalt",
    ):
        assert line in output


def test_json_and_figure_can_be_written_together(show, tmp_path):
    figure = tmp_path / "curve.png"
    result = show("a", "--json", "--figure", str(figure), stored=candidate())
    document = json.loads(result.stdout)
    assert document["prescreen"]["rejected_at"] == "confirmation"
    assert document["relaxation"]["curve"]["energies"] == CURVE.energies
    assert document["relaxed"] is None
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_figure_of_unrelaxed_candidate_is_a_user_error(show, tmp_path):
    stored = candidate(prescreen=None)
    assert "stage rejected" in lines(show("a", stored=stored))
    result = show("a", "--figure", str(tmp_path / "curve.png"), stored=stored)
    assert result.exit_code == 2
    assert "--figure: candidate a was not relaxed in a prescreen" in result.stderr


def test_unknown_candidate_is_a_user_error(show):
    result = show("unknown", stored=candidate())
    assert result.exit_code == 2
    assert "'unknown'" in result.stderr


def test_sparkline_is_scaled_and_limited_in_length():
    assert sparkline(range(8)) == BLOCKS
    assert sparkline([3.0, 3.0]) == BLOCKS[0] * 2
    long = sparkline(range(1000))
    assert len(long) == LONGEST_SPARKLINE
    assert (long[0], long[-1]) == (BLOCKS[0], BLOCKS[-1])
