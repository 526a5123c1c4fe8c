from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import yaml
from bson import Int64, ObjectId
from typer.testing import CliRunner

from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.results.archive import check_archive, read_archive
from tests.helpers import mg_o

CAMPAIGN = mg_o()
COLLECTIONS = ("campaigns", "outputs", "outputs_blobs.files", "outputs_blobs.chunks",
               "candidates")  # fmt: skip
WEIGHTS = "weights" * 100_000


@pytest.fixture
def other_database(launchpad_file, tmp_path):
    """A my_launchpad.yaml of an empty database on the same server."""
    settings = yaml.safe_load(launchpad_file.read_text())
    path = tmp_path / "other_launchpad.yaml"
    path.write_text(yaml.safe_dump(settings | {"name": f"{settings['name']}_2"}))
    return path


def call(*arguments):
    return CliRunner().invoke(app, ["archive", *map(str, arguments)])


def contents(launchpad_file):
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        return {name: list(db[name].find().sort("_id", 1)) for name in COLLECTIONS}


@pytest.fixture
def stored(launchpad_file):
    """A database with two campaigns that share a training job."""
    moment = datetime(2026, 3, 1, 12, 30, 15, 123000, tzinfo=UTC)
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        db["campaigns"].insert_many(
            [
                {
                    "name": name,
                    "settings": CAMPAIGN.model_dump(mode="json") | {"name": name},
                    "submission": {"owners": [name, "shared"], "submitted_on": moment},
                }
                for name in ("mg-o", "other")
            ]
        )
        with databases.job_store() as store:
            store.update(
                {
                    "uuid": "training",
                    "index": 1,
                    "metadata": {"campaign": "shared"},
                    "output": {"weights": WEIGHTS, "sha256": "c0ffee"},
                },
                save={"data": "weights"},
            )
            for index in (1, 2):  # a job that was replaced
                store.update({"uuid": "gate", "index": index, "output": index,
                              "metadata": {"campaign": "mg-o"}})  # fmt: skip
            store.update({"uuid": "of other", "index": 1, "output": 1,
                          "metadata": {"campaign": "other"}})  # fmt: skip
        db["candidates"].insert_many(
            [
                {
                    "candidate_id": f"{campaign} {i}",
                    "campaign": campaign,
                    "energy": -8.123456789012345,
                    "number": Int64(i),
                    "last_updated": moment,
                    "nothing": None,
                    "reference": ObjectId(),
                    "infinite": float("inf"),
                }
                for campaign in ("mg-o", "other")
                for i in range(450)
            ]
        )
    return launchpad_file


def test_archived_campaign_is_read_back_unchanged(stored, other_database, tmp_path):
    path = tmp_path / "new" / "mg-o.zip"
    written = call("write", "mg-o", "-o", path, "-l", stored)
    assert written.exit_code == 0, written.output
    assert "mg-o, 456 documents" in written.output.replace("\n", "")
    before = contents(stored)
    assert call("read", path, "-l", other_database).exit_code == 0
    after = contents(other_database)
    for name in COLLECTIONS:
        expected = [d for d in before[name] if "other" not in (d.get("campaign"), d.get("name"))]
        expected = [d for d in expected if d.get("uuid") != "of other"]
        assert after[name] == expected, name
        assert expected, name
    with open_databases(other_database) as databases, databases.job_store() as store:
        assert store.get_output("training", load=True)["weights"] == WEIGHTS
        fields = {
            index["key"][0][0]: index.get("unique", False)
            for index in databases.launchpad().db["candidates"].index_information().values()
        }
    assert fields["candidate_id"]
    assert {"formula_pretty", "energy_above_hull"} <= set(fields)

    again = call("read", path, "-l", other_database)
    assert "0 new documents" in again.output
    assert contents(other_database) == after
    assert "450" in call("check", path).output
    second = tmp_path / "again.zip"
    call("write", "mg-o", "-o", second, "-l", other_database)
    assert check_archive(second).members == check_archive(path).members


def test_interrupted_import_is_completed(stored, other_database, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    call("read", path, "-l", other_database)
    complete = contents(other_database)
    with open_databases(other_database) as databases:
        databases.launchpad().db["candidates"].delete_many({"number": {"$gte": 100}})
    assert "350 new documents" in call("read", path, "-l", other_database).output
    assert contents(other_database) == complete


def damaged(path, target):
    shutil.copy(path, target)
    with target.open("r+b") as file:
        file.seek(target.stat().st_size // 3)
        file.write(b"\0" * 64)


def cut_off(path, target):
    target.write_bytes(path.read_bytes()[:-2000])


def changed(path, target):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"-8.12", b"-9.12") if name[:4] == "cand" else data)


def rewritten(change):
    """Return a function that changes members and updates the checksums of the manifest."""

    def write(path, target):
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        manifest = json.loads(members.pop("manifest.json"))
        change(members, manifest)
        for name, data in members.items():
            member = manifest["members"].get(name.removesuffix(".jsonl"), {})
            member["sha256"] = hashlib.sha256(data).hexdigest()
        with zipfile.ZipFile(target, "w") as new:
            for name, data in members.items():
                new.writestr(name, data)
            new.writestr("manifest.json", json.dumps(manifest))

    return write


def with_manifest(**changes):
    return rewritten(lambda _, manifest: manifest.update(changes))


def with_lines(data, n_documents, of="candidates"):
    def change(members, manifest):
        members[f"{of}.jsonl"] = data
        manifest["members"][of]["n_documents"] = n_documents

    return rewritten(change)


def with_header(offset, value):
    """Return a function that changes a header field of the first member."""

    def write(path, target):
        data = bytearray(path.read_bytes())
        for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            at = data.index(signature) + offset + shift
            data[at : at + 2] = value.to_bytes(2, "little")
        target.write_bytes(data)

    return write


ENCRYPTED, COMPRESSION = (6, 0x41), (8, 97)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "damaged"),
        (cut_off, "damaged or not a campaign archive"),
        (changed, "candidates is damaged"),
        (with_manifest(format=2), "format 2"),
        (with_manifest(members={}), "collections"),
        (with_manifest(campaign=None), "not a campaign archive"),
        (lambda _, target: target.write_text("hello"), "not a campaign archive"),
        (lambda *_: None, "No such file"),
        (with_header(*ENCRYPTED), "damaged or not a campaign archive"),
        (with_header(*COMPRESSION), "damaged or not a campaign archive"),
        (with_manifest(campaign="another"), "campaigns does not match"),
        (with_lines(b'{"candidate_id": "x"}\n', 2), "candidates is damaged"),
        (with_lines(2 * b'{"candidate_id": "x"}\n', 2), "candidates contains a document twice"),
        (with_lines(b"[1]\n", 1), "damaged or not a campaign archive"),
        (with_lines(b'{"name": "x"}\n', 1), "damaged or not a campaign archive"),
        (with_lines(b'{"candidate_id": {"$oid": "x"}}\n', 1), "damaged or not a campaign archive"),
        (with_lines(b"[" * 100_000 + b"\n", 1), "damaged or not a campaign archive"),
        (with_lines(b"", 0, "campaigns"), "campaigns does not match"),
    ],
)
def test_invalid_archive_is_not_imported(stored, other_database, tmp_path, spoil, message):
    path, target = tmp_path / "mg-o.zip", tmp_path / "invalid.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    spoil(path, target)
    result = call("read", target, "-l", other_database)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not any(contents(other_database).values())


def test_concurrent_imports(stored, other_database, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(other_database) as databases, ThreadPoolExecutor(3) as executor:
        imports = [executor.submit(read_archive, databases, path) for _ in range(3)]
        assert sum(future.result()[1] for future in imports) == 456
    assert len(contents(other_database)["candidates"]) == 450


def test_stored_campaign_of_another_version_is_a_user_error(stored, other_database, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(other_database) as databases:
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-o", "settings": {"new": 1}})
    result = call("read", path, "-l", other_database)
    assert result.exit_code == 2
    assert "'mg-o'" in result.output


def test_different_campaign_of_the_same_name_is_a_user_error(stored, other_database, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(other_database) as databases:
        settings = CAMPAIGN.model_dump(mode="json") | {"max_atoms": 7}
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-o", "settings": settings})
    result = call("read", path, "-l", other_database)
    assert result.exit_code == 2
    assert "'mg-o'" in result.output
    assert not contents(other_database)["candidates"]


def test_failed_write_leaves_no_file(stored, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("write", "mg-o", "-o", tmp_path / "file" / "mg-o.zip", "-l", stored)
    assert result.exit_code == 2
    assert call("write", "missing", "-o", tmp_path / "x.zip", "-l", stored).exit_code == 2
    assert not list(tmp_path.glob(".*zip*"))
