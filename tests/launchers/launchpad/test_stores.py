from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from jobflow import JobStore

from gan_htvs.core.errors import UserError
from launchers.launchpad.database import open_databases
from launchers.launchpad.stores import BlobStore, OutputStore

WRITE = """
import jobflow

store = jobflow.SETTINGS.JOB_STORE
with store:
    document = {"uuid": "u", "index": 1, "output": {"weights": "w" * 1000, "steps": 3}}
    store.update(document, key=["uuid", "index"], save={"data": "weights"})
"""


def as_jobflow_reads_it(launchpad_file):
    return {
        "JOB_STORE": {
            "@module": "jobflow.core.store",
            "@class": "JobStore",
            "docs_store": OutputStore(str(launchpad_file)).as_dict(),
            "additional_stores": {"data": BlobStore(str(launchpad_file)).as_dict()},
        }
    }


def test_a_worker_with_jobflows_own_settings_writes_where_a_campaign_reads(
    tmp_path, launchpad_file
):
    configuration = tmp_path / "jobflow.yaml"
    configuration.write_text(yaml.safe_dump(as_jobflow_reads_it(launchpad_file)))
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
def test_a_password_connects_and_is_written_nowhere(tmp_path, settings):
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


def test_a_password_that_others_can_read_is_refused(tmp_path):
    launchpad_file = tmp_path / "my_launchpad.yaml"
    launchpad_file.write_text("{host: mongo.example.org, name: search, password: xyzzy}")
    launchpad_file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600") as error:
        OutputStore(str(launchpad_file))
    assert "xyzzy" not in str(error.value)
