from __future__ import annotations

import math

import pytest
import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import Ending
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.batched_relaxation import is_batched, relax_batched
from gan_htvs.potentials.batches import batches_of
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work, relax
from gan_htvs.prescreen.screening import Prescreen
from tests.helpers import proposal, references, require_potential, rocksalt

CHGNET = PotentialSettings(name="chgnet")


def skewed() -> Structure:
    return Structure(
        Lattice.from_parameters(2.9, 2.9, 3.5, 80, 75, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_batch_agrees_with_single_relaxations(name):
    require_potential(name)
    settings = PotentialSettings(name=name)
    starts = {"skewed": skewed(), "good": rocksalt(length=4.35), "manganosite": rocksalt("Mn", 4.6)}
    work = {key: Work(start, settings) for key, start in starts.items()}
    batch = dict(relax_batched(work, batches_of(name, "cpu")))
    assert list(batch)[-1] == "skewed"
    for key, start in starts.items():
        single = relax(start, settings)
        relaxation = batch[key]
        assert relaxation.ending is single.ending is Ending.CONVERGED
        assert relaxation.relaxed.energy_per_atom == pytest.approx(
            single.relaxed.energy_per_atom, abs=1e-3
        )
        assert len(relaxation.curve.energies) == relaxation.relaxed.n_steps + 1
        assert relaxation.relaxed.n_steps == pytest.approx(single.relaxed.n_steps, abs=2)
        assert relaxation.curve.max_forces[-1] < settings.fmax
        assert relaxation.relaxed.level_of_theory == single.relaxed.level_of_theory
        assert (relaxation.relaxed.magmoms is None) == (single.relaxed.magmoms is None)
        assert relaxation.cpu_seconds > 0


def test_failing_structures_do_not_affect_others():
    nan = Structure(rocksalt(length=4.35).lattice, ["Mg", "O"], [[math.nan, 0, 0], [0.5, 0.5, 0.5]])
    unknown = rocksalt("Cm")  # beyond the elements of CHGNet
    work = {
        key: Work(start, CHGNET)
        for key, start in {"nan": nan, "unknown": unknown, "good": rocksalt(length=4.35)}.items()
    }
    relaxations = dict(relax_batched(work, batches_of("chgnet", "cpu")))
    assert [relaxations[key].ending for key in work] == [
        Ending.RAISED,
        Ending.RAISED,
        Ending.CONVERGED,
    ]
    assert "positions" in relaxations["nan"].reason
    assert "Cm" in relaxations["unknown"].reason
    assert relaxations["nan"].relaxed is None


def test_early_stopping_and_audit_in_a_batch():
    def stop(curve):
        return "enough" if len(curve.energies) > 1 else None

    work = {
        "stopped": Work(skewed(), CHGNET, stop),
        "audited": Work(skewed(), CHGNET, stop, audited=True),
        "complete": Work(skewed(), CHGNET),
    }
    relaxations = dict(relax_batched(work, batches_of("chgnet", "cpu")))
    assert relaxations["stopped"].ending is Ending.STOPPED
    assert relaxations["stopped"].reason == "enough"
    assert relaxations["audited"].ending is relaxations["complete"].ending is Ending.CONVERGED
    assert [relaxations[key].would_stop_at for key in work] == [1, 1, None]


def test_choice_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not is_batched("sevennet-0", "auto")
    assert not is_batched("MACE", "cuda")
    with pytest.raises(UserError, match=r"prescreen\.device: 'cuda'"):
        is_batched("chgnet", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert is_batched("sevennet-0", "auto")
    assert not is_batched("chgnet", "auto")
    assert is_batched("chgnet", "cuda")
    assert not is_batched("sevennet-0", "cpu")
    assert not is_batched("MACE", "auto")


def test_prescreen_on_a_gpu_and_in_processes(monkeypatch):
    def prescreen(device):
        rules = Prescreen(CHGNET, None, references(), None, audit=0.0, device=device)
        (screened,) = rules.run([proposal("good", rocksalt())]).survivors
        return screened.prescreen

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(
            "gan_htvs.potentials.relaxation.batches_of",
            lambda name, _device: batches_of(name, "cpu"),
        )
        patch.setattr("gan_htvs.potentials.relaxation.run_in_processes", None)
        on_gpu = prescreen("cuda")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("gan_htvs.potentials.relaxation.batches_of", None)
    on_cpu = prescreen("auto")
    assert on_cpu.decomposition_energy == pytest.approx(on_gpu.decomposition_energy, abs=1e-3)
