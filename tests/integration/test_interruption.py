"""A small real campaign, interrupted in the ways that happen, ends as if nothing had happened."""

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
    candidates = site.candidates()
    generated = [c for c in candidates if c["origin"]["proposer"] == "gan"]
    assert len(generated) == n_structures
    assert {c["stage"] for c in generated}.isdisjoint({"generated", "failed"})
    assert len({c["candidate_id"] for c in candidates}) == len(candidates)
    assert {c["origin"].get("label") for c in candidates} >= {"MgO periclase", "Mg hcp"}
    assert site.leftovers() == []
    return candidates


def own(candidate):
    """What other candidates do not change: they may lower the hull, or be the same crystal."""
    shared = {"energy_above_hull", "duplicate_of", "stage", "reason"}
    return {key: value for key, value in candidate.items() if key not in shared}


def test_a_run_that_is_stopped_killed_and_robbed_of_its_database_doubles_and_loses_nothing(site):
    interrupt(site)
    kill_run(site)
    kill_database(site)

    candidates = finish(site)
    assert "up to date" in site.call("build").stdout
    assert site.candidates() == candidates

    site.configure({"sampling": SMALL_CAMPAIGN["sampling"] | {"structures_per_composition": 4}})
    more = {c["candidate_id"]: c for c in finish(site, n_structures=4)}
    assert all(own(more[c["candidate_id"]]) == own(c) for c in candidates)
    archive(site)


def archive(site):
    """Take a campaign along: nothing that its jobs left is lost."""
    assert site.call("archive", "write", "--output", "mg-o.zip").returncode == 0
    before = documents(site)
    with open_databases(site.launchpad_file) as databases, databases.client() as client:
        client.drop_database(site.settings["name"])
    read = site.call("archive", "read", "mg-o.zip")
    assert read.returncode == 0, read.stderr
    assert documents(site) == before


def documents(site):
    """Read all collections, without large objects of outputs that a later run of a job replaced."""
    with open_databases(site.launchpad_file) as databases:
        db = databases.launchpad().db
        found = {name: list(db[name].find().sort("_id", 1)) for name in KEYS}
    files, chunks = "outputs_blobs.files", "outputs_blobs.chunks"
    outputs = str(found["outputs"])
    found[files] = [each for each in found[files] if each["metadata"]["blob_uuid"] in outputs]
    ids = {each["_id"] for each in found[files]}
    found[chunks] = [each for each in found[chunks] if each["files_id"] in ids]
    assert ids
    return found


def interrupt(site):
    """Press Ctrl-C."""
    run = site.start()
    site.wait_for_outputs(run, 3)
    run.send_signal(signal.SIGINT)
    told, _ = run.communicate(timeout=60)
    assert run.returncode == 130, told
    assert "continues from here" in told
    assert "Traceback" not in told
    assert site.leftovers() == []


def kill_run(site):
    """Kill a run, which takes its workers along."""
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
    """Kill the database, which is told in one sentence."""
    run = site.start()
    site.wait_for_outputs(run, 8)
    before = outputs_by_uuid(site)
    kill_server(site.directory / "database")
    told, _ = run.communicate(timeout=120)
    assert run.returncode == 2, told
    assert "stopped answering" in told
    assert "Traceback" not in told
    with open_databases(site.launchpad_file):
        assert before.items() <= outputs_by_uuid(site).items()
