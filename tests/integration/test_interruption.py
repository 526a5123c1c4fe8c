"""A small real campaign that is stopped, killed and resumed has complete results."""

from __future__ import annotations

import signal

import psutil
import pytest

from launchers.launchpad.database import open_databases
from launchers.results.archive import KEYS
from tests.integration.conftest import SMALL_CAMPAIGN, kill_server


@pytest.fixture
def site(site_of):
    return site_of(SMALL_CAMPAIGN)


def outputs_by_uuid(site):
    return {
        document["uuid"]: document["completed_at"]
        for document in site.database().outputs.find(
            {"completed_at": {"$exists": True}}, {"uuid": 1, "completed_at": 1}
        )
    }


def finish(site, n_structures=3):
    result = site.call("run", "campaign.yaml", "--workers", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    candidates = site.candidates("--references")
    generated = [c for c in candidates if c["origin"]["proposer"] == "gan"]
    assert len(generated) == n_structures
    assert {c["stage"] for c in generated}.isdisjoint({"generated", "failed"})
    assert len({c["candidate_id"] for c in candidates}) == len(candidates)
    assert {c["origin"].get("label") for c in candidates} >= {"MgO periclase", "Mg hcp"}
    assert site.leftovers() == []
    return candidates


def independent_fields(candidate):
    """Return the fields that do not depend on other candidates."""
    shared = {"energy_above_hull", "decomposition_energy", "duplicate_of", "stage", "reason"}
    return {key: value for key, value in candidate.items() if key not in shared}


def test_interrupted_run_resumes_without_lost_or_repeated_jobs(site):
    interrupt(site)
    kill_run(site)
    kill_database(site)

    candidates = finish(site)
    assert "up to date" in site.invoke("build").stdout
    assert site.candidates("--references") == candidates

    site.configure({"sampling": SMALL_CAMPAIGN["sampling"] | {"structures_per_composition": 4}})
    more = {c["candidate_id"]: c for c in finish(site, n_structures=4)}
    assert all(
        independent_fields(more[c["candidate_id"]]) == independent_fields(c) for c in candidates
    )
    check_archive(site)


def check_archive(site):
    """Write an archive, delete the database and read the archive: all documents are restored."""
    assert site.invoke("archive", "write", "--output", "mg-o.zip").exit_code == 0
    before = documents(site)
    with open_databases(site.launchpad_file) as databases, databases.client() as client:
        client.drop_database(site.settings["name"])
    read = site.invoke("archive", "read", "mg-o.zip")
    assert read.exit_code == 0, read.stderr
    assert documents(site) == before


def documents(site):
    """Return all collections, without large objects of outputs that were replaced."""
    with open_databases(site.launchpad_file) as databases:
        db = databases.launchpad().db
        collections = {name: list(db[name].find().sort("_id", 1)) for name in KEYS}
    files, chunks = "outputs_blobs.files", "outputs_blobs.chunks"
    outputs = str(collections["outputs"])
    collections[files] = [
        file for file in collections[files] if file["metadata"]["blob_uuid"] in outputs
    ]
    ids = {file["_id"] for file in collections[files]}
    collections[chunks] = [chunk for chunk in collections[chunks] if chunk["files_id"] in ids]
    assert ids
    return collections


def interrupt(site):
    """Press Ctrl-C."""
    run = site.start(workers=1)
    site.wait_for_outputs(run, 3)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130, output
    assert "Traceback" not in output
    assert site.leftovers() == []


def kill_run(site):
    """Kill a run: its workers end with it."""
    run = site.start()
    site.wait_for_outputs(run, 6)
    before = outputs_by_uuid(site)
    workers = [
        p for p in psutil.Process(run.pid).children() if "launchers.local.worker" in p.cmdline()
    ]
    assert len(workers) == 2
    run.kill()
    run.wait()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    with open_databases(site.launchpad_file):
        assert before.items() <= outputs_by_uuid(site).items()


def kill_database(site):
    """Kill the database: the run ends with a user error."""
    run = site.start(workers=1)
    site.wait_for_outputs(run, 8)
    before = outputs_by_uuid(site)
    kill_server(site.directory / "database")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 2, output
    assert "Traceback" not in output
    with open_databases(site.launchpad_file):
        assert before.items() <= outputs_by_uuid(site).items()
