from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from jobflow import JobStore

from launchers.launchpad.database import open_databases
from launchers.launchpad.stores import BlobStore, OutputStore

WRITE = """
import jobflow

store = jobflow.SETTINGS.JOB_STORE
with store:
    document = {"uuid": "u", "index": 1, "output": {"weights": "w" * 1000, "steps": 3}}
    store.update(document, key=["uuid", "index"], save={"data": "weights"})
"""


def jobflow_settings(launchpad_file):
    return {
        "JOB_STORE": {
            "@module": "jobflow.core.store",
            "@class": "JobStore",
            "docs_store": OutputStore(str(launchpad_file)).as_dict(),
            "additional_stores": {"data": BlobStore(str(launchpad_file)).as_dict()},
        }
    }


def test_store_in_jobflow_settings_uses_the_campaign_database(tmp_path, launchpad_file):
    configuration = tmp_path / "jobflow.yaml"
    configuration.write_text(yaml.safe_dump(jobflow_settings(launchpad_file)))
    with open_databases(launchpad_file) as databases, databases.job_store() as store:
        environment = os.environ | {"JOBFLOW_CONFIG_FILE": str(configuration)}
        subprocess.run([sys.executable, "-c", WRITE], env=environment, check=True)
        assert store.get_output("u", load=True) == {"weights": "w" * 1000, "steps": 3}
        document = store.docs_store.query_one({"uuid": "u"})
        assert document["output"]["weights"].keys() >= {"blob_uuid", "store"}


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "mongo.example.org", "username": "ada", "password": "xyzzy"},
        {"host": "mongodb://ada:xyzzy@mongo.example.org/", "uri_mode": True},
    ],
)
def test_serialized_store_contains_no_password(tmp_path, settings):
    launchpad_file = tmp_path / "my_launchpad.yaml"
    launchpad_file.write_text(yaml.safe_dump(settings | {"name": "search"}))
    launchpad_file.chmod(0o600)
    docs, blobs = OutputStore(str(launchpad_file)), BlobStore(str(launchpad_file))
    for store in (docs, blobs):
        assert store.mongoclient_kwargs["password"] == "xyzzy"
        assert "xyzzy" not in store.uri
    store = JobStore(docs, additional_stores={"data": blobs})
    written = json.dumps(store.as_dict())
    assert "xyzzy" not in written
    assert "xyzzy" not in store.name + docs.name + blobs.name
    read = JobStore.from_dict(json.loads(written))
    assert isinstance(read.additional_stores["data"], BlobStore)
    assert read.docs_store.launchpad_file == str(launchpad_file)
