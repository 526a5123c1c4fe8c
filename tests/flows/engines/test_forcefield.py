from __future__ import annotations

import pytest
from ase.calculators.lj import LennardJones
from atomate2.forcefields import utils
from atomate2.forcefields.utils import MLFF
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from flows.engines.energy import energy_engine
from gan_htvs.descent import descend
from gan_htvs.documents import decode
from gan_htvs.engines import EnergyEngineSettings, EngineSettings
from gan_htvs.errors import CalculationError

STRETCHED_MNO = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.7), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


def relaxed(tmp_path, **settings):
    engine = energy_engine(EngineSettings(energy=settings))
    jobs = engine.calculations(STRETCHED_MNO, lambda name: name)
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    flow = Flow(list(jobs.values()))
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    outputs = {name: decode(store.get_output(job.uuid, load=True)) for name, job in jobs.items()}
    # The prescreen hands on the primitive cell of what was proposed.
    return engine.summarise(STRETCHED_MNO * (2, 1, 1), outputs)


def test_manganosite_relaxes_to_its_lattice_constant_and_moment(tmp_path):
    result = relaxed(tmp_path)
    assert result.converged
    assert result.level_of_theory == "CHGNet-0.3.0"
    lattice_constant = (4 * result.structure.volume) ** (1 / 3)
    assert lattice_constant == pytest.approx(4.45, rel=0.02)  # experiment: 4.446 A
    assert result.volume_change == pytest.approx(result.structure.volume / 25.96 - 1, abs=1e-3)
    assert max(result.magmoms) > 4  # high-spin Mn2+


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_one_process_relaxes_as_the_flow_does(name, tmp_path):
    pytest.importorskip({"chgnet": "chgnet", "sevennet-0": "sevenn"}[name])
    flow = relaxed(tmp_path, name=name)
    alone = descend(STRETCHED_MNO, EnergyEngineSettings(name=name)).relaxed
    assert alone.energy_per_atom == pytest.approx(flow.energy_per_atom, abs=1e-4)
    assert alone.correction_per_atom == pytest.approx(flow.correction_per_atom)
    assert alone.n_steps == flow.n_steps
    assert alone.level_of_theory == flow.level_of_theory
    if name == "chgnet":
        assert alone.magmoms == pytest.approx(flow.magmoms, abs=1e-3)


def test_sevennet_energies_are_corrected_and_labelled(tmp_path):
    pytest.importorskip("sevenn")
    result = relaxed(tmp_path, name="sevennet-0")
    assert result.level_of_theory == "SevenNet-0+MP2020"
    # MP2020: -0.687 eV for O in an oxide, -1.668 eV for Mn with U in it.
    assert result.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)
    assert result.magmoms is None


def test_a_force_field_of_atomate2_gets_its_arguments(tmp_path, monkeypatch):
    asked = []

    def loads(name, **arguments):
        asked.append((MLFF(name), arguments))
        return LennardJones(sigma=1.9, epsilon=0.5, rc=6.0)

    monkeypatch.setattr(utils, "ase_calculator", loads)
    settings = {"name": "MACE-MP-0", "arguments": {"model": str(tmp_path / "mine.model")}}
    flow = relaxed(tmp_path, **settings)
    alone = descend(STRETCHED_MNO, EnergyEngineSettings(**settings)).relaxed
    assert asked == [(MLFF.MACE_MP_0, settings["arguments"])] * 3
    assert flow.converged
    assert flow.volume_change < -0.1
    assert flow.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)
    assert flow.level_of_theory == f"MACE-MP-0(model={tmp_path}/mine.model)+MP2020"
    assert alone.energy_per_atom == pytest.approx(flow.energy_per_atom, abs=1e-6)
    assert (alone.n_steps, alone.level_of_theory) == (flow.n_steps, flow.level_of_theory)


def test_an_energy_that_is_not_finite_is_a_failure(tmp_path, monkeypatch):
    class Overflowing(LennardJones):
        def calculate(self, *arguments, **settings):
            super().calculate(*arguments, **settings)
            self.results["energy"] = float("nan")

    monkeypatch.setattr(utils, "ase_calculator", lambda *_, **__: Overflowing(sigma=1.9))
    with pytest.raises(CalculationError, match="not finite numbers"):
        relaxed(tmp_path, name="MACE-MP-0", arguments={"model": "mine"})


def test_a_relaxation_cut_short_is_not_converged(tmp_path):
    result = relaxed(tmp_path, max_steps=2)
    assert not result.converged


def test_the_label_names_the_model_that_is_loaded():
    from chgnet.model import CHGNet

    assert energy_engine(EngineSettings()).level_of_theory == (
        f"CHGNet-{CHGNet.load(verbose=False).version}"
    )
