from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from gan_htvs.core.errors import UserError
from gan_htvs.potentials import calculators as potentials
from launchers.monitor.doctor import software_checks as software
from launchers.monitor.findings import Severity, failure


def compare(*requirements: str):
    return software.compare_versions(map(Requirement, requirements))


def test_installed_libraries_meet_the_requirements():
    finding = software.libraries()
    assert finding.severity is Severity.OK
    assert f"numpy {version('numpy')}" in finding.what


def test_wrong_version_is_reported_with_the_requirement():
    finding = compare("numpy>=1", "pymatgen>=9999")
    assert finding.severity is Severity.FAILURE
    assert f"pymatgen is {version('pymatgen')}" in finding.what
    assert finding.fix == "pip install 'pymatgen>=9999'"


def test_excluded_version_is_a_failure():
    assert compare(f"numpy!={version('numpy')}").severity is Severity.FAILURE


def test_missing_library_is_a_failure_unless_optional():
    assert "no-such-library is missing" in compare("no-such-library>=1").what
    assert compare("no-such-library>=1; extra == 'x'").severity is Severity.OK
    assert compare("numpy<1; extra == 'x'").severity is Severity.WARNING


def test_imports_of_every_job_are_checked(monkeypatch):
    assert software.imports().severity is Severity.OK
    monkeypatch.setattr(software, "SLOW_IMPORTS", 0.0)
    assert software.imports().severity is Severity.WARNING
    monkeypatch.setattr(software, "IMPORTED", ("torch", "no_such_module"))
    assert "`import no_such_module` fails" in software.imports().what


@pytest.mark.parametrize("name", potentials.SHIPPED)
def test_weights_of_shipped_potentials_are_checked(name):
    finding = software.potential(name, {})
    assert finding.severity is Severity.OK
    assert potentials.weights_file(name).name in finding.what


def test_sevennet_loads_the_checked_weights():
    util = pytest.importorskip("sevenn.util")
    for name, original in potentials.SEVENNET_MODELS.items():
        assert potentials.weights_file(name).samefile(util.pretrained_name_to_path(original))


@pytest.mark.parametrize("n_bytes", [0, 1000, -1000])
def test_damaged_weights_are_a_failure(tmp_path, monkeypatch, n_bytes):
    whole = potentials.weights_file("chgnet")
    damaged = tmp_path / "chgnet" / "pretrained" / "0.3.0" / whole.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(whole.read_bytes()[:n_bytes])
    monkeypatch.setattr(software, "weights_file", lambda _: damaged)
    finding = software.potential("chgnet", {})
    assert finding.severity is Severity.FAILURE
    assert finding.fix == "pip install --force-reinstall --no-deps chgnet"


def test_flipped_bit_in_weights_is_a_failure(tmp_path, monkeypatch):
    whole = potentials.weights_file("chgnet")
    damaged = tmp_path / "chgnet" / "pretrained" / "0.3.0" / whole.name
    damaged.parent.mkdir(parents=True)
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(software, "weights_file", lambda _: damaged)
    assert software.potential("chgnet", {}).severity is Severity.FAILURE


def test_missing_potential_is_a_user_error_with_its_extra(monkeypatch):
    monkeypatch.setattr(potentials, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"gan-htvs\[sevennet\]"):
        software.potential("sevennet-0", {})


def test_gpaw_finding_separates_reason_and_fix(monkeypatch):
    monkeypatch.setattr("flows.engines.gpaw.availability", lambda: "it is absent: install it")
    assert software.gpaw() == failure("it is absent", "install it")


def test_enumlib_needs_both_programs(programs):
    assert "enum.x and makestr.x not on PATH" in software.enumlib().what
    programs("multienum.x")
    assert software.enumlib().what.startswith("makestr.x not on PATH")
    programs("makeStr.py")
    assert software.enumlib().severity is Severity.OK


def test_api_key_is_never_shown(monkeypatch):
    monkeypatch.setattr(software, "find_spec", lambda _: object())
    monkeypatch.setattr(software, "version", lambda _: "0.46")
    monkeypatch.setenv("MP_API_KEY", "xyzzy")
    finding = software.materials_project()
    assert finding.severity is Severity.OK
    assert "xyzzy" not in str(finding)
    monkeypatch.delenv("MP_API_KEY")
    assert software.materials_project().severity is Severity.FAILURE


@pytest.mark.parametrize(
    ("n_cores", "setting", "runs_vasp", "severity"),
    [
        (8, None, True, Severity.WARNING),
        (8, "1", True, Severity.OK),
        (8, None, False, Severity.OK),
        (1, None, True, Severity.OK),
    ],
)
def test_unset_threads_are_a_warning_for_vasp(n_cores, setting, runs_vasp, severity):
    assert software.threads(n_cores, setting, runs_vasp=runs_vasp).severity is severity


class TestOptimade:
    def test_client_only(self):
        assert software.optimade(None).severity is Severity.OK

    @pytest.mark.parametrize(
        ("path", "severity"), [("/v1/info", Severity.OK), ("/other", Severity.FAILURE)]
    )
    def test_server_must_answer(self, path, severity, free_port):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == path else 404)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", free_port()), Handler)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        finding = software.optimade(url)
        thread.join()
        server.server_close()
        assert finding.severity is severity
        assert url in finding.what

    def test_server_that_is_away_is_a_failure(self, free_port):
        finding = software.optimade(f"http://127.0.0.1:{free_port()}")
        assert finding.severity is Severity.FAILURE
        assert "gan-htvs references" in finding.fix
