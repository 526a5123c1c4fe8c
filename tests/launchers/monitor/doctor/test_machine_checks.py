from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from launchers.monitor.doctor import machine_checks as machine
from launchers.monitor.findings import Severity


def test_machine_without_gpu_is_ok(programs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.gpu().severity is Severity.OK
    programs("nvidia-smi", "echo 'NVIDIA-SMI has failed' >&2; exit 9")
    assert machine.gpu().severity is Severity.OK


def test_gpu_that_pytorch_cannot_use_is_a_warning(programs, monkeypatch):
    programs("nvidia-smi", "echo 550.54")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = machine.gpu()
    assert finding.severity is Severity.WARNING
    assert "550.54" in finding.what


def test_gpu_is_reported_with_its_driver(programs, monkeypatch):
    programs("nvidia-smi", "echo 550.54; echo 550.54")
    properties = SimpleNamespace(name="H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    finding = machine.gpu()
    assert finding.severity is Severity.OK
    assert "2 x H100, 80 GiB" in finding.what
    assert finding.what.endswith("driver 550.54")


def test_missing_batch_system_is_skipped(programs):
    assert machine.batch_system().severity is Severity.SKIPPED


@pytest.mark.parametrize(("name", "submit", "status"), machine.BATCH_SYSTEMS)
def test_batch_system_needs_submit_and_status_commands(programs, submit, status, name):
    programs(submit)
    incomplete = machine.batch_system()
    assert incomplete.severity is Severity.WARNING
    assert status in incomplete.what
    programs(status)
    complete = machine.batch_system()
    assert complete.severity is Severity.OK
    assert complete.what.startswith(name)


def test_lsf_without_jobs_is_ok(programs):
    programs("bsub")
    programs("bjobs", "echo 'No unfinished job found' >&2; exit 255")
    assert machine.batch_system().severity is Severity.OK


def test_failing_or_hanging_queue_is_a_warning(programs, monkeypatch):
    programs("sbatch")
    programs("squeue", "echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1")
    assert "Unable to contact" in machine.batch_system().what
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.2)
    programs("squeue", "while :; do :; done")
    assert machine.batch_system().severity is Severity.WARNING


@pytest.mark.parametrize(
    ("free", "severity"),
    [(0.5, Severity.FAILURE), (1.5, Severity.WARNING), (9.9, Severity.WARNING), (10, Severity.OK)],
)
def test_severity_depends_on_free_space(tmp_path, monkeypatch, free, severity):
    usage = SimpleNamespace(free=int(free * 2**30))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    assert machine.disk(tmp_path).severity is severity


def test_existing_parent_of_a_directory_is_checked(tmp_path, monkeypatch):
    finding = machine.disk(tmp_path / "runs" / "search")
    assert finding.what.endswith(f"at {tmp_path}")
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert machine.disk(tmp_path / "runs").severity is Severity.FAILURE
