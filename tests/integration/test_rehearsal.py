"""A campaign for VASP, rehearsed: what fails is told, and exactly that runs again."""

from __future__ import annotations

import pytest

from gan_htvs.thermodynamics.references import reference_phases, write_phases
from launchers.database import open_databases

CAMPAIGN = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "compositions": ["Mg2O2"],
    "sampling": {"proposers": ["substitution"], "structures_per_composition": 300},
    "prescreen": None,
    "references": {"source": "materials_project", "path": "phases.json"},
    "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "none"}},
}


@pytest.fixture
def site(site_of, tmp_path):
    phases = [phase for phase in reference_phases(["Mg", "O"]) if phase.formula != "MgO2"]
    write_phases(tmp_path / "phases.json", phases, ["Mg", "O"], 0.05)
    return site_of(CAMPAIGN)


def rehearse(site, n_structures, **environment):
    arguments = ("campaign.yaml", "--structures", str(n_structures), "--workers", "1")
    return site.call("rehearse", *arguments, **environment)


def launches(site):
    """How often each job has been launched, by candidate and name; a release follows anything."""
    with open_databases(site.launchpad_file) as databases:
        fireworks = databases.launchpad().fireworks
        return {
            (firework["spec"].get("candidate_id"), firework["name"]): len(firework["launches"])
            + len(firework["archived_launches"])
            for firework in fireworks.find({"spec.step": {"$ne": "release"}})
        }


def test_failures_are_told_and_exactly_those_run_again(site):
    done = rehearse(site, 1)
    assert done.returncode == 0, done.stderr
    assert "no number above is a result" in done.stderr + done.stdout
    assert "What VASP will do" in done.stdout
    before = launches(site)

    killed = rehearse(site, 2, GAN_HTVS_REHEARSAL_FAIL="killed")
    assert killed.returncode == 0, killed.stderr
    rows = site.candidates("--rehearsal")
    assert len(rows) == 4
    (failed,) = [row for row in rows if row["stage"] == "failed"]
    assert failed["reason"].startswith("NM relax 1: vasprun.xml is missing or cut off")
    assert "launcher_" in failed["failure"]["folder"]
    assert {row["level_of_theory"] for row in rows if row is not failed} == {"rehearsal"}

    again = site.call("retry").stdout
    assert "NM relax 1" in again
    assert "1 jobs queued again" in again
    assert rehearse(site, 2).returncode == 0
    assert not [row for row in site.candidates("--rehearsal") if row["stage"] == "failed"]
    assert site.call("candidates", "--campaign", "mg-o-rehearsal").returncode == 2
    after = launches(site)
    assert {name: after[name] for name in before} == before
    chain = {f"NM {step} MgO" for step in ("relax 1", "relax 2", "static")}
    assert {name for (_, name), n in after.items() if n == 2} == {*chain, "gate MgO"}
