"""Shared by all floors: the published data, and a real database server."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import secrets
import socket
import uuid
from pathlib import Path

import pytest
import yaml
from pymatgen.core import SETTINGS
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP


@pytest.fixture(scope="session")
def free_port():
    """Find a port of this machine that nobody uses.

    Below those that clients get: one of them could take it while a server starts again.
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
    """An embedded server that runs as long as the tests, which takes seconds to start."""
    from launchers.launchpad.embedded import EmbeddedServer

    server = EmbeddedServer(tmp_path_factory.mktemp("server"), port=free_port())
    with server.serving():
        yield server


@pytest.fixture
def launchpad_file(tmp_path: Path, running_server) -> Path:
    """A my_launchpad.yaml of an embedded database that nobody has used yet."""
    return write_launchpad(
        tmp_path,
        port=running_server.port,
        name=f"test_{uuid.uuid4().hex}",
        embedded_storage=str(running_server.storage),
    )


@pytest.fixture
def launchpad_file_of_own_server(tmp_path: Path, free_port) -> Path:
    """The same with a server that starts with its first client and stops with the last."""
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
"""Nothing of VASP's: what pymatgen wants to see in a POTCAR, and no potential."""


@pytest.fixture
def potcars(tmp_path: Path, monkeypatch):
    """An empty folder of POTCARs in pymatgen's layout, and a function that writes one."""
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
    """Find a file that VASP wrote among those that ASE ships for its own tests."""

    def find(name: str) -> Path:
        path = Path(str(importlib.resources.files("ase"))) / "test" / "testdata" / "vasp" / name
        if not path.exists():
            pytest.skip(f"this version of ASE comes without {name}")
        return path

    return find


@pytest.fixture(scope="session")
def in_process():
    """Custodian's job for the stand-in, without the seconds that a process takes to start."""
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
    """Let VASP jobs of Mg, Mn and O run the stand-in, and accept what it writes."""
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
    """Begin with the longest tests."""
    items.sort(key=lambda item: "integration" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spread tests over processes so that what they share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        # Marks of xdist_group would do, but pytest-xdist 3.8 does not see them with pytest 9.2.
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Groups(config, log)


def group_of(nodeid: str) -> str:
    """Name the group of a test: its file, but for tests that take minutes or share more."""
    file = nodeid.partition("::")[0]
    if "thermodynamics" in file:
        return "thermodynamics"  # all want the relaxed phases
    return nodeid if "integration" in file else file
