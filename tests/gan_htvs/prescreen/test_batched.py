from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.batches import batches_of
from gan_htvs.descent import Ending, descend
from gan_htvs.engines import DescentSettings
from gan_htvs.errors import UserError
from gan_htvs.prescreen.batched import is_batched, relax_batched

CHGNET = DescentSettings(name="chgnet")


def rocksalt(cation: str = "Mg", length: float = 4.35) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def skewed() -> Structure:
    return Structure(
        Lattice.from_parameters(2.9, 2.9, 3.5, 80, 75, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_many_relax_as_each_does_alone(name):
    pytest.importorskip({"chgnet": "chgnet", "sevennet-0": "sevenn"}[name])
    settings = DescentSettings(name=name)
    starts = {"skewed": skewed(), "good": rocksalt(), "manganosite": rocksalt("Mn", 4.6)}
    work = {key: (start, settings, None, False) for key, start in starts.items()}
    together = dict(relax_batched(work, batches_of(name, "cpu")))
    assert list(together)[-1] == "skewed", "whoever has converged does not wait"
    for key, start in starts.items():
        alone = descend(start, settings)
        descent = together[key]
        assert descent.ending is alone.ending is Ending.CONVERGED
        assert descent.relaxed.energy_per_atom == pytest.approx(
            alone.relaxed.energy_per_atom, abs=1e-3
        )
        assert len(descent.curve.energies) == descent.relaxed.n_steps + 1
        assert descent.relaxed.n_steps == pytest.approx(alone.relaxed.n_steps, abs=2)
        assert descent.curve.max_forces[-1] < settings.fmax
        assert descent.relaxed.level_of_theory == alone.relaxed.level_of_theory
        assert (descent.relaxed.magmoms is None) == (alone.relaxed.magmoms is None)
        assert descent.cpu_seconds > 0


def test_what_cannot_be_computed_leaves_alone():
    nan = Structure(rocksalt().lattice, ["Mg", "O"], [[math.nan, 0, 0], [0.5, 0.5, 0.5]])
    unknown = rocksalt("Cm")  # beyond the elements of CHGNet
    work = {
        key: (start, CHGNET, None, False)
        for key, start in {"nan": nan, "unknown": unknown, "good": rocksalt()}.items()
    }
    descents = dict(relax_batched(work, batches_of("chgnet", "cpu")))
    assert [descents[key].ending for key in work] == [
        Ending.RAISED,
        Ending.RAISED,
        Ending.CONVERGED,
    ]
    assert "not finite: positions" in descents["nan"].reason
    assert "knows the elements up to Pu, and not Cm" in descents["unknown"].reason
    assert descents["nan"].relaxed is None


def test_a_rule_stops_its_own_and_the_audited_go_on():
    def stop(curve):
        return "enough" if len(curve.energies) > 1 else None

    work = {
        "stopped": (skewed(), CHGNET, stop, False),
        "audited": (skewed(), CHGNET, stop, True),
        "patient": (skewed(), CHGNET, None, False),
    }
    descents = dict(relax_batched(work, batches_of("chgnet", "cpu")))
    assert descents["stopped"].ending is Ending.STOPPED
    assert descents["stopped"].reason == "enough"
    assert descents["audited"].ending is descents["patient"].ending is Ending.CONVERGED
    assert [descents[key].would_stop_at for key in work] == [1, 1, None]


def test_a_gpu_is_used_where_there_is_one_and_may_be_demanded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not is_batched("sevennet-0", "auto")
    assert not is_batched("MACE", "cuda"), "which computes where its arguments say"
    with pytest.raises(UserError, match=r"prescreen\.device: 'cuda'"):
        is_batched("chgnet", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert is_batched("sevennet-0", "auto")
    assert not is_batched("chgnet", "auto"), "which is sooner done on a few cores"
    assert is_batched("chgnet", "cuda")
    assert not is_batched("sevennet-0", "cpu")
    assert not is_batched("MACE", "auto")


def test_a_pack_relaxes_in_one_batch_or_in_processes(monkeypatch):
    import gan_htvs.prescreen.pack as module
    from gan_htvs.prescreen.notes import NotebookInMemory
    from tests.gan_htvs.prescreen.test_pack import RULES, proposals

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "batches_of", lambda name, _: batches_of(name, "cpu"))
    monkeypatch.setattr(module, "spread", None)
    notes = NotebookInMemory()
    rules = replace(RULES, device="cuda")
    (verdict,) = rules.run(proposals(good=rocksalt()), notes)
    assert verdict.survives
    assert len(notes.noted) == 1

    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "batches_of", None)
    (verdict,) = RULES.run(proposals(good=rocksalt()), NotebookInMemory())
    assert verdict.survives
