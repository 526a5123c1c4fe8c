"""Fixtures of all layers: a real database server, POTCARs, the stand-in for VASP."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import secrets
import socket
import uuid
from pathlib import Path

import hypothesis
import pytest
import yaml
from pymatgen.core import SETTINGS
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP

# Times depend on the load of the machine.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")


@pytest.fixture(scope="session")
def free_port():
    """Return a function that finds an unused port of this machine.

    Ephemeral ports are excluded: a client could get the port while a server restarts.
    """

    def find() -> int:
        while True:
            port = 16_384 + secrets.randbelow(16_000)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture(scope="session")
def running_server(tmp_path_factory, free_port):
    """Embedded server for the whole session, because it takes seconds to start."""
    from launchers.launchpad.embedded import EmbeddedServer

    server = EmbeddedServer(tmp_path_factory.mktemp("server"), port=free_port())
    with server.serving():
        yield server


@pytest.fixture
def launchpad_file(tmp_path: Path, running_server) -> Path:
    """my_launchpad.yaml of a new database of the shared embedded server."""
    return write_launchpad(
        tmp_path,
        port=running_server.port,
        name=f"test_{uuid.uuid4().hex}",
        embedded_storage=str(running_server.storage),
    )


@pytest.fixture
def launchpad_file_of_own_server(tmp_path: Path, free_port) -> Path:
    """my_launchpad.yaml of a separate server, which runs as long as it has clients."""
    return write_launchpad(
        tmp_path, port=free_port(), name="gan_htvs_test", embedded_storage="database"
    )


def write_launchpad(folder: Path, **settings) -> Path:
    path = folder / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump({"host": "127.0.0.1", **settings}))
    return path


PLACEHOLDER_POTCAR = """\
 PAW_PBE {symbol} 01Jan2000
   8.0
 parameters from PSCTR are:
   VRHFIN ={element}: placeholder
   LEXCH  = {lexch}
   EATOM  =   100.0000 eV,    7.3499 Ry
   TITEL  = PAW_PBE {symbol} 01Jan2000
   LULTRA =        F    use ultrasoft PP ?
   LPAW   =        T    paw PP
   POMASS =   24.305; ZVAL   =    8.000    mass and valenz
   ENMAX  =  400.000; ENMIN  =  300.000 eV
 END of PSCTR-controll parameters
 local part
   0.1 0.2 0.3
 End of Dataset
"""
"""Only the header lines that pymatgen reads in a POTCAR; no data of VASP."""


@pytest.fixture
def potcars(tmp_path: Path, monkeypatch):
    """Function that writes a placeholder POTCAR into an empty folder in pymatgen's layout."""
    folder = tmp_path / "potcars"
    folder.mkdir()
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(folder))

    def write(symbol: str, functional: str = "PBE", *, element: str = "", lexch: str = "PE"):
        path = folder / POTCAR_FUNCTIONAL_MAP[functional] / symbol / "POTCAR"
        path.parent.mkdir(parents=True)
        element = element or symbol.partition("_")[0]
        path.write_text(PLACEHOLDER_POTCAR.format(symbol=symbol, element=element, lexch=lexch))
        return path

    return write


@pytest.fixture(scope="session")
def recorded_vasp():
    """Return a function that finds a file written by VASP in the test data of ASE."""

    def find(name: str) -> Path:
        path = Path(str(importlib.resources.files("ase"))) / "test" / "testdata" / "vasp" / name
        if not path.exists():
            pytest.skip(f"this version of ASE does not have {name}")
        return path

    return find


@pytest.fixture(scope="session")
def in_process():
    """Job of custodian that runs the stand-in in this process, which saves the start-up time."""
    from custodian.vasp.jobs import VaspJob

    from launchers.rehearsal.program import run

    class InProcess(VaspJob):
        def run(self, directory="./"):
            output = (Path(directory) / self.output_file).open("w")
            with output, contextlib.redirect_stdout(output):
                run(Path(directory))
            (Path(directory) / self.stderr_file).touch()

    return InProcess


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory, in_process):
    """Make VASP jobs of Mg, Mn and O run the stand-in and accept its output."""
    from launchers.rehearsal.environment import stand_in

    folder = tmp_path_factory.mktemp("potcars")
    with (
        stand_in(folder, ("Mg_pv", "Mn_pv", "O"), "PBE"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("atomate2.vasp.run.VaspJob", in_process)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items):
    """Run the longest tests first."""
    items.sort(key=lambda item: "integration" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute tests over processes; tests with shared fixtures stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        # pytest-xdist 3.8 ignores marks of xdist_group with pytest 9.2.
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Groups(config, log)


def group_of(nodeid: str) -> str:
    """Return the group of a test: its file, except for long tests and shared fixtures."""
    file = nodeid.partition("::")[0]
    if "thermodynamics" in file:
        return "thermodynamics"  # all use the relaxed phases
    return nodeid if "integration" in file else file
