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

from gan_htvs.campaign.campaign_file import validate_campaign
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.results.archive import check_archive, read_archive

CAMPAIGN = validate_campaign(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 4, "O": 4}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    },
    "test",
)
COLLECTIONS = ("campaigns", "outputs", "outputs_blobs.files", "outputs_blobs.chunks",
               "candidates")  # fmt: skip
WEIGHTS = "weights" * 100_000


@pytest.fixture
def another(launchpad_file, tmp_path):
    """An empty database beside the first one."""
    settings = yaml.safe_load(launchpad_file.read_text())
    path = tmp_path / "another.yaml"
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
    """Two campaigns, one of which has everything; they share their references."""
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
            store.update({"uuid": "theirs", "index": 1, "output": 1,
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


def test_a_campaign_comes_back_as_it_was(stored, another, tmp_path):
    path = tmp_path / "new" / "mg-o.zip"
    written = call("write", "mg-o", "-o", path, "-l", stored)
    assert written.exit_code == 0, written.output
    assert "mg-o, 454 documents" in written.output.replace("\n", "")
    before = contents(stored)
    assert call("read", path, "-l", another).exit_code == 0
    after = contents(another)
    for name in COLLECTIONS:
        mine = [d for d in before[name] if "other" not in (d.get("campaign"), d.get("name"))]
        mine = [d for d in mine if d.get("uuid") != "theirs"]
        assert after[name] == mine, name
        assert mine, name
    with open_databases(another) as databases, databases.job_store() as store:
        assert store.get_output("training", load=True)["weights"] == WEIGHTS
        fields = {
            each["key"][0][0]: each.get("unique", False)
            for each in databases.launchpad().db["candidates"].index_information().values()
        }
    assert fields["candidate_id"]
    assert {"formula_pretty", "energy_above_hull"} <= set(fields)

    again = call("read", path, "-l", another)
    assert "0 new documents" in again.output
    assert contents(another) == after
    told = call("check", path).output
    assert "candidates: 450 documents" in told
    second = tmp_path / "again.zip"
    call("write", "mg-o", "-o", second, "-l", another)
    assert check_archive(second).members == check_archive(path).members


def test_what_was_put_in_halfway_is_completed(stored, another, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    call("read", path, "-l", another)
    complete = contents(another)
    with open_databases(another) as databases:
        databases.launchpad().db["candidates"].delete_many({"number": {"$gte": 100}})
    assert "350 new documents" in call("read", path, "-l", another).output
    assert contents(another) == complete


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
    """Let the members be changed, and the manifest with them."""

    def write(path, target):
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        manifest = json.loads(members.pop("manifest.json"))
        change(members, manifest)
        for name, data in members.items():
            told = manifest["members"].get(name.removesuffix(".jsonl"), {})
            told["sha256"] = hashlib.sha256(data).hexdigest()
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
    """Change a field of the first member's header, in the file and in its directory."""

    def write(path, target):
        data = bytearray(path.read_bytes())
        for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            at = data.index(signature) + offset + shift
            data[at : at + 2] = value.to_bytes(2, "little")
        target.write_bytes(data)

    return write


ENCRYPTED, PACKING = (6, 0x41), (8, 97)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (damaged, "damaged"),
        (cut_off, "damaged, or no archive of a campaign"),
        (changed, "candidates is damaged"),
        (with_manifest(format=2), "of format 2, and this version reads 1"),
        (with_manifest(members={}), "other collections"),
        (with_manifest(campaign=None), "no archive of a campaign"),
        (lambda _, target: target.write_text("hello"), "no archive of a campaign"),
        (lambda *_: None, "cannot be read: No such file"),
        (with_header(*ENCRYPTED), "damaged, or no archive of a campaign"),
        (with_header(*PACKING), "damaged, or no archive of a campaign"),
        (with_manifest(campaign="another"), "it holds another one"),
        (with_lines(b'{"candidate_id": "x"}\n', 2), "candidates is damaged"),
        (with_lines(2 * b'{"candidate_id": "x"}\n', 2), "candidates holds a document twice"),
        (with_lines(b"[1]\n", 1), "damaged, or no archive of a campaign"),
        (with_lines(b'{"name": "x"}\n', 1), "damaged, or no archive of a campaign"),
        (with_lines(b'{"candidate_id": {"$oid": "x"}}\n', 1), "damaged, or no archive"),
        (with_lines(b"[" * 100_000 + b"\n", 1), "damaged, or no archive of a campaign"),
        (with_lines(b"", 0, "campaigns"), "it holds another one"),
    ],
)
def test_what_is_no_whole_archive_changes_nothing(stored, another, tmp_path, spoil, told):
    path, target = tmp_path / "mg-o.zip", tmp_path / "spoilt.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    spoil(path, target)
    result = call("read", target, "-l", another)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())
    assert not any(contents(another).values())


def test_many_may_read_an_archive_at_one_time(stored, another, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(another) as databases, ThreadPoolExecutor(3) as readers:
        read = [readers.submit(read_archive, databases, path) for _ in range(3)]
        assert sum(each.result()[1] for each in read) == 454
    assert len(contents(another)["candidates"]) == 450


def test_a_campaign_of_another_version_there_is_told(stored, another, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(another) as databases:
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-o", "settings": {"new": 1}})
    result = call("read", path, "-l", another)
    assert result.exit_code == 2
    assert "The settings of campaign 'mg-o' are those of another version" in " ".join(
        result.output.split()
    )


def test_another_campaign_of_the_name_is_not_mixed_with(stored, another, tmp_path):
    path = tmp_path / "mg-o.zip"
    call("write", "mg-o", "-o", path, "-l", stored)
    with open_databases(another) as databases:
        settings = CAMPAIGN.model_dump(mode="json") | {"max_atoms": 7}
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-o", "settings": settings})
    result = call("read", path, "-l", another)
    assert result.exit_code == 2
    assert "another campaign 'mg-o'" in result.output
    assert not contents(another)["candidates"]


def test_an_archive_that_cannot_be_written_leaves_nothing(stored, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("write", "mg-o", "-o", tmp_path / "file" / "mg-o.zip", "-l", stored)
    assert result.exit_code == 2
    assert "choose a writable folder" in result.output
    assert call("write", "nobody", "-o", tmp_path / "x.zip", "-l", stored).exit_code == 2
    assert not list(tmp_path.glob(".*zip*"))
