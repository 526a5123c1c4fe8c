"""Whole candidates through the VASP flow, with custodian and the stand-in for VASP."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atomate2.utils.path import strip_hostname
from emmet.core.tasks import TaskDoc
from jobflow import Flow, JobStore, run_locally
from monty.os.path import zpath
from pymatgen.io.vasp.inputs import Incar

from flows.candidate import CandidateMaker, StabilityMaker
from flows.engines.hybrid import METHOD, VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.campaign.model import SHIPPED_GENERATOR
from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.document import decode
from gan_htvs.core.errors import CalculationError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.funnel_stages import FunnelSettings
from gan_htvs.core.stages import Stage
from gan_htvs.generator.checkpoint import load
from gan_htvs.magnetism.initial_moments import magnetic_starts
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample
from launchers.rehearsal.failure_modes import FAIL_VARIABLE, RUNS_FILE
from tests.helpers import LOOSE_STAGES, PBE_U, memory_store, references, rocksalt

from .conftest import queued

ENERGIES = {
    "Mg": -1.58,
    "Mn": -9.08,
    "O2": -4.948,
    "MgO": -6.31,
    "MnO": -8.98,
    "MnO2": -8.12,
    "MgMn2O4": -7.99,
}
"""Approximately those of CHGNet, eV/atom."""

STEPS = ["relax 1", "relax 2", "static"]


def generated(formula, seed):
    system = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
    proposer = GanProposer(load(SHIPPED_GENERATOR, system=system))
    (structure,) = sample(proposer, system.counts(formula), 1, seed=seed).structures
    return structure


def candidate_maker(**vasp):
    engines = EngineSettings(energy={"name": "vasp"}, band_gap={"name": "vasp"}, vasp=vasp)
    return CandidateMaker(
        energy_maker=VaspEnergyMaker.of(engines),
        stability_maker=StabilityMaker(
            band_gap_maker=VaspBandGapMaker.of(engines), funnel=FunnelSettings(stages=LOOSE_STAGES)
        ),
    )


@dataclass(frozen=True)
class Evaluation:
    """The results of the flow of one candidate."""

    structure: Any
    store: JobStore
    folder: Path
    jobs: list[Any]

    @property
    def outputs(self):
        """Output of each job by its name without the formula; the last one of replaced jobs."""
        documents = self.store.query({}, load=True, sort={"index": 1})
        return {d["name"].rpartition(" ")[0]: decode(d["output"]) for d in documents}

    @property
    def verdict(self):
        return self.outputs["stability"]

    @property
    def relaxed(self):
        return self.outputs["energy"]

    def incar(self, step):
        """Return the INCAR of a step."""
        folder = Path(strip_hostname(self.outputs[step].dir_name))
        return Incar.from_file(zpath(str(folder / "INCAR")))

    def run(self, *names):
        """Run the jobs with these names; without names, all."""
        # Running a job replaces its references by outputs.
        jobs = deepcopy(self.jobs)
        selected = [job for job in jobs if not names or job.name.rpartition(" ")[0] in names]
        run_locally(
            Flow(selected),
            store=self.store,
            create_folders=True,
            root_dir=self.folder,
            log=False,
            allow_external_references=True,
        )
        return self


def evaluate(structure, folder, **vasp):
    flow = candidate_maker(**vasp).make(structure, references(PBE_U, ENERGIES))
    return Evaluation(structure, memory_store(), folder, queued(flow)).run()


@pytest.fixture
def second_ferromagnetic_relaxation_fails(in_process):
    """Job of custodian that deletes vasprun.xml of the second ferromagnetic relaxation."""
    n_relaxations = 0

    class Failing(in_process):
        def run(self, directory="./"):
            nonlocal n_relaxations
            super().run(directory)
            incar = Incar.from_file(Path(directory) / "INCAR")
            if incar["NSW"] > 0 and min(incar["MAGMOM"]) >= 0:
                n_relaxations += 1
                if n_relaxations == 2:
                    (Path(directory) / "vasprun.xml").unlink()

    return Failing


@pytest.fixture(scope="module")
def magnesia(tmp_path_factory, stand_in):
    return evaluate(rocksalt("Mg", 4.3), tmp_path_factory.mktemp("MgO"))


@pytest.fixture(scope="module")
def manganosite(tmp_path_factory, stand_in):
    return evaluate(rocksalt("Mn", 4.5), tmp_path_factory.mktemp("MnO"))


@pytest.fixture
def half_failed(tmp_path, monkeypatch, stand_in, second_ferromagnetic_relaxation_fails):
    with monkeypatch.context() as patch:
        patch.setattr("atomate2.vasp.run.VaspJob", second_ferromagnetic_relaxation_fails)
        return evaluate(rocksalt("Mn", 4.5), tmp_path)


@pytest.fixture(scope="module")
def spinel(tmp_path_factory, stand_in):
    structure = generated("MgMn2O4", seed=1)
    return evaluate(structure, tmp_path_factory.mktemp("MgMn2O4"), pre_relaxation="chgnet")


@pytest.fixture
def evaluation(request):
    return request.getfixturevalue(request.param)


all_evaluations = pytest.mark.parametrize(
    "evaluation", ["magnesia", "manganosite", "half_failed", "spinel"], indirect=True
)


def test_magnesia_passes_all_steps(magnesia):
    outputs, relaxed = magnesia.outputs, magnesia.relaxed
    calculations = [f"NM {step}" for step in STEPS]
    assert set(outputs) == {*calculations, "energy", "stability", "hybrid", "band gap"}
    assert all(isinstance(outputs[name], TaskDoc) for name in (*calculations, "hybrid"))
    assert [magnesia.incar(name).get("ISIF") for name in calculations[:2]] == [3, 3]
    assert magnesia.incar("NM static")["NSW"] == 0
    assert magnesia.incar("hybrid")["LHFCALC"] is True
    static = outputs["NM static"]
    assert relaxed.level_of_theory == PBE_U
    raw = relaxed.energy_per_atom - relaxed.correction_per_atom
    assert raw == pytest.approx(static.output.energy_per_atom)
    assert relaxed.structure == static.structure
    assert relaxed.folder == static.dir_name
    assert [order.order for order in relaxed.magnetic_orders] == ["NM"]
    assert magnesia.verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.01)
    gap = outputs["band gap"]
    hybrid = outputs["hybrid"].calcs_reversed[0].output
    assert gap.band_gap == pytest.approx(hybrid.cbm - hybrid.vbm)
    assert gap.pbe_gap == static.output.bandgap < gap.band_gap
    assert (magnesia.verdict.stage, magnesia.verdict.band_gap) == ("photoanode", gap)
    assert gap.method == METHOD


@pytest.mark.parametrize("evaluation", ["magnesia", "manganosite"], indirect=True)
def test_corrected_energies_are_those_of_the_potential(evaluation):
    atoms = evaluation.relaxed.structure.to_ase_atoms()
    atoms.calc = calculator_of("chgnet")
    expected = atoms.get_potential_energy() / len(atoms)
    assert evaluation.relaxed.energy_per_atom == pytest.approx(expected, abs=1e-4)
    assert evaluation.relaxed.correction_per_atom < -0.1


def assert_same_crystal(one, other):
    assert np.allclose(one.lattice.matrix, other.lattice.matrix, atol=1e-6)
    shifts = one.frac_coords - other.frac_coords
    assert np.abs(shifts - np.round(shifts)).max() < 1e-6


@all_evaluations
def test_each_step_starts_from_the_previous_structure(evaluation):
    for start in {name.split()[0] for name in evaluation.outputs if name.endswith("static")}:
        steps = [evaluation.outputs[f"{start} {step}"] for step in STEPS]
        for before, after in pairwise(steps):
            if isinstance(after, TaskDoc):
                assert_same_crystal(after.input.structure, before.structure)


@all_evaluations
def test_moments_are_passed_between_steps(evaluation):
    outputs, lowest = evaluation.outputs, evaluation.relaxed.magnetic_orders[0].start
    chains = [[f"{lowest} static", "hybrid"]]
    for start in {name.split()[0] for name in outputs if name.endswith("static")}:
        names = [f"{start} {step}" for step in STEPS]
        chains.append([name for name in names if isinstance(outputs[name], TaskDoc)])
    for chain in chains:
        for before, after in pairwise(chain):
            moments = outputs[before].structure.site_properties["magmom"]
            assert evaluation.incar(after)["MAGMOM"] == pytest.approx(moments, abs=1e-3)


class TestMagneticOrders:
    def test_both_are_relaxed_and_kept(self, manganosite):
        outputs, relaxed = manganosite.outputs, manganosite.relaxed
        orders = relaxed.magnetic_orders
        raw = relaxed.energy_per_atom - relaxed.correction_per_atom
        assert set(outputs) == {
            *(f"{order} {step}" for order in ("FM", "AFM") for step in STEPS),
            "energy",
            "stability",
            "hybrid",
            "band gap",
        }
        assert {order.start: order.order for order in orders} == {"FM": "FM", "AFM": "AFM"}
        # CHGNet has no magnetic couplings: both orderings have equal energies.
        energies = [order.energy_per_atom for order in orders]
        assert energies == sorted(energies)
        assert energies == pytest.approx([raw] * 2, abs=1e-3)

    def test_antiferromagnet_keeps_its_ordering(self, manganosite):
        start = magnetic_starts(manganosite.structure)["AFM"]
        first = manganosite.incar("AFM relax 1")["MAGMOM"]
        assert sorted(first) == sorted(start.site_properties["magmom"])
        assert sum(np.sign(first)) == 0
        moments = manganosite.outputs["AFM static"].structure.site_properties["magmom"]
        assert np.sign(moments).tolist() == np.sign(first).tolist()
        assert sum(moments) == pytest.approx(0, abs=0.01)

    def test_oxidation_states_are_stored(self, manganosite):
        states = manganosite.relaxed.oxidation_states
        assert (states.average, states.is_neutral) == ({"Mn": 2, "O": -2}, True)


class TestFailures:
    def test_failed_ordering_does_not_stop_the_other(self, half_failed):
        outputs, relaxed = half_failed.outputs, half_failed.relaxed
        raw = relaxed.energy_per_atom - relaxed.correction_per_atom
        assert raw == pytest.approx(outputs["AFM static"].output.energy_per_atom)
        good, failed = relaxed.magnetic_orders
        assert (good.start, good.order, good.reason) == ("AFM", "AFM", None)
        assert (failed.start, failed.energy_per_atom) == ("FM", None)
        assert failed.reason == f"FM relax 2: {outputs['FM relax 2'].reason}"
        assert "vasprun.xml" in failed.reason
        gap = outputs["band gap"]
        assert gap.band_gap is None
        assert gap.magnetic_orders == relaxed.magnetic_orders
        assert gap.reason.startswith("missing magnetic ordering FM: FM relax 2: vasprun.xml is")
        assert (gap.is_complete, gap.is_retryable) == (False, True)
        assert not relaxed.is_complete
        assert half_failed.verdict.stage == "pourbaix_metastable"

    def test_later_steps_pass_a_failure_on(self, half_failed):
        failure = half_failed.outputs["FM relax 2"]
        assert isinstance(failure, CalculationFailure)
        assert half_failed.outputs["FM static"] == failure
        n_tasks = sum(isinstance(output, TaskDoc) for output in half_failed.outputs.values())
        assert n_tasks == 5
        assert len(list(half_failed.folder.rglob(RUNS_FILE))) == n_tasks + 1

    def test_missing_ordering_completes_energy_and_gap(self, half_failed):
        before = half_failed.outputs
        half_failed.run("FM relax 2", "FM static", "energy", "stability")
        after = half_failed.outputs
        assert after["FM relax 1"] == before["FM relax 1"]
        assert {order.start for order in half_failed.relaxed.magnetic_orders} == {"FM", "AFM"}
        assert half_failed.relaxed.is_complete
        assert after["band gap"].is_complete
        assert half_failed.verdict.stage == "photoanode"

    def test_candidate_without_any_ordering_has_reason_of_failure(
        self, tmp_path, monkeypatch, stand_in
    ):
        monkeypatch.setenv(FAIL_VARIABLE, "truncated")
        failed = evaluate(rocksalt("Mg", 4.3), tmp_path)
        failure = failed.outputs["NM relax 1"]
        expected = dict.fromkeys([*(f"NM {step}" for step in STEPS), "energy"], failure)
        assert failed.outputs == expected | {"stability": failed.verdict}
        assert len(list(tmp_path.rglob(RUNS_FILE))) == 1
        assert (failed.verdict.stage, failed.verdict.failure) == (Stage.FAILED, failure)
        assert failed.verdict.reason == f"NM relax 1: {failure.reason}"

    def test_missing_output_is_a_failure(self):
        choose = VaspEnergyMaker.choose.original
        with pytest.raises(CalculationError, match="the calculation has no output"):
            choose(VaspEnergyMaker(), rocksalt("Mg", 4.3), {"NM": [None, None, None]})


class TestPreRelaxation:
    @pytest.fixture(params=["FM", "AFM"])
    def order(self, request):
        return request.param

    def test_runs_before_vasp(self, spinel, order):
        relaxation = spinel.outputs[f"{order} pre-relax"]
        assert isinstance(relaxation, RelaxedStructure)
        first = spinel.outputs[f"{order} relax 1"].input.structure
        assert_same_crystal(first, relaxation.structure.get_sorted_structure())

    def test_moments_are_assigned_after_pre_relaxation(self, spinel):
        moments = dict.fromkeys(("FM", "AFM"))
        for order in moments:
            structure = spinel.outputs[f"{order} pre-relax"].structure
            moments[order] = spinel.incar(f"{order} relax 1")["MAGMOM"]
            assert len(moments[order]) == len(structure)
        assert moments["FM"] == [0.6, 5, 5, 0.6, 0.6, 0.6, 0.6]
        assert moments["AFM"] == [0, 5, -5, 0, 0, 0, 0]

    def test_steps_of_both_are_stored(self, spinel):
        lowest = spinel.relaxed.magnetic_orders[0].start
        relaxation = spinel.outputs[f"{lowest} pre-relax"]
        assert spinel.relaxed.pre_relaxation_steps == relaxation.n_steps > 1
        tasks = [spinel.outputs[f"{lowest} relax {n}"] for n in (1, 2)]
        n_steps = sum(len(task.calcs_reversed[0].output.ionic_steps) for task in tasks)
        assert spinel.relaxed.n_steps == n_steps
