from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from fireworks import Firework, LaunchPad, ScriptTask

from gan_htvs.errors import UserError
from launchers.embedded import EmbeddedServer
from launchers.launchpad_file import LaunchpadFile

ROOT = Path(__file__).parents[2]
LPAD = Path(sys.executable).with_name("lpad")


def test_the_file_of_the_repository_is_the_one_that_new_campaigns_start_from():
    shipped = (resources.files("launchers.templates") / "my_launchpad.yaml").read_text()
    assert (ROOT / "my_launchpad.yaml").read_text() == shipped


@pytest.fixture
def beside_a_server(tmp_path, free_port):
    """The file of the repository with another port, and its database running."""
    path = tmp_path / "my_launchpad.yaml"
    port = free_port()
    path.write_text((ROOT / "my_launchpad.yaml").read_text().replace("27027", str(port)))
    settings = LaunchpadFile.read(path)
    assert settings.port == port
    assert settings.embedded_storage == tmp_path / "gan_htvs_data" / "database"
    with EmbeddedServer(settings.embedded_storage, port).serving():
        yield path


def test_fireworks_own_lpad_reads_the_file_of_the_repository(beside_a_server):
    launchpad = LaunchPad.from_file(str(beside_a_server))
    launchpad.reset("", require_password=False)
    launchpad.add_wf(Firework(ScriptTask.from_str("true"), name="asked for"))
    answer = subprocess.run(
        [LPAD, "-l", beside_a_server, "get_wflows"],
        cwd=beside_a_server.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    workflow = json.loads(answer[answer.index("{") :])
    assert workflow["name"] == "asked for--1"
    assert workflow["state"] == "READY"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host: db.lab.org", "db.lab.org:27017"),
        ("host: db.lab.org\nport: 27018", "db.lab.org:27018"),
        ("host: mongodb://db.lab.org/\nuri_mode: true", "the URI in my_launchpad.yaml"),
    ],
)
def test_an_address_is_complete_and_holds_no_credentials(tmp_path, text, address):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(text)
    assert LaunchpadFile.read(path).address == address


@pytest.mark.parametrize("name", ["", "my search", "a/b"])
def test_a_name_that_no_database_can_have_is_told_in_words(tmp_path, name):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(f"host: 127.0.0.1\nname: '{name}'\n")
    with pytest.raises(UserError, match=f"'{name}' must be one or more characters other than"):
        LaunchpadFile.read(path)
