"""Whole candidates through the flow of VASP: custodian is real, a stand-in is VASP."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atomate2.forcefields.schemas import ForceFieldTaskDocument
from atomate2.utils.path import strip_hostname
from emmet.core.tasks import TaskDoc
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from monty.json import jsanitize
from monty.os.path import zpath
from pymatgen.io.vasp.inputs import Incar

from flows.engines.vasp import VaspEngine
from flows.engines.vasp_step import VaspStepMaker
from flows.evaluate import EvaluateMaker
from gan_htvs.builders.candidates import CandidateBuilder
from gan_htvs.builders.stability import StabilityBuilder
from gan_htvs.campaign import SHIPPED_GENERATOR, Campaign
from gan_htvs.candidate import Origin, Proposal, Stage, Step
from gan_htvs.documents import decode
from gan_htvs.engines import REHEARSAL, EngineSettings
from gan_htvs.errors import CalculationError
from gan_htvs.failures import CalculationFailure
from gan_htvs.generator.checkpoint import load
from gan_htvs.magnetism import magnetic_starts
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.rehearsal.failures import FAIL_VARIABLE, RUNS_FILE
from gan_htvs.store import CandidateStore
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

from .conftest import REFERENCES, campaign_of, queued, rocksalt

ENERGIES = {
    "Mg": -1.58,
    "Mn": -9.08,
    "O2": -4.948,
    "MgO": -6.31,
    "MnO": -8.98,
    "MnO2": -8.12,
    "MgMn2O4": -7.99,
}
"""About what CHGNet says, eV/atom."""

STEPS = ["relax 1", "relax 2", "static"]


def generated(formula, campaign, seed):
    system = campaign.chemical_system
    proposer = GanProposer(load(SHIPPED_GENERATOR, system=system))
    (structure,) = sample(proposer, system.counts(formula), 1, seed=seed).structures
    return structure


@dataclass(frozen=True)
class Evaluation:
    """A candidate that has been through the flow."""

    campaign: Campaign
    proposal: Proposal
    store: JobStore
    folder: Path
    outputs: dict[str, Any]
    """Of each job, by its name without the formula."""

    @property
    def verdict(self):
        return self.outputs["gate"]

    @property
    def relaxed(self):
        return self.verdict.relaxed

    def incar(self, step):
        """What VASP was told in a step."""
        folder = Path(strip_hostname(self.outputs[step].dir_name))
        return Incar.from_file(zpath(str(folder / "INCAR")))

    def candidate(self):
        """Build the document of the candidate."""
        keys = {"campaigns": "name", "stability": "candidate_id", "candidates": "candidate_id"}
        stores = [MemoryStore(key=key) for key in keys.values()]
        for store in stores:
            store.connect()
        campaigns, stability, candidates = stores
        settings = self.campaign.model_dump(mode="json")
        campaigns.update([{"name": self.campaign.name, "settings": settings}])
        jobs = self.store.docs_store
        sorting = StabilityBuilder(jobs, campaigns, stability)
        joining = CandidateBuilder(jobs, campaigns, stability, candidates)
        for builder in (sorting, joining):
            builder.update_targets([builder.process_item(item) for item in builder.get_items()])
            sorting.settle()
        assert CandidateStore(candidates).get("c0ffee") is None
        return CandidateStore(candidates, rehearsal=True).get("c0ffee")


def evaluate(structure, folder, campaign):
    proposal = Proposal(
        candidate_id="c0ffee",
        structure=structure,
        origin=Origin(proposer="gan", requested_composition=structure.formula, index=0),
    )
    references = ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory=REHEARSAL)
            for f, e in ENERGIES.items()
        )
    )
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    for uuid, step, output in (
        (REFERENCES, Step.REFERENCES, references),
        ("uuid-of-the-shard", Step.PROPOSE, {"proposals": [proposal]}),
    ):
        document = jsanitize(output, strict=True, enum_values=True)
        labels = {"campaign": campaign.name, "step": step.value}
        store.update({"uuid": uuid, "index": 1, "output": document, "metadata": labels})
    jobs = queued(EvaluateMaker(campaign, REFERENCES).make(proposal))
    run_locally(Flow(jobs), store=store, create_folders=True, root_dir=folder, log=False)
    documents = store.query({"metadata.candidate_id": "c0ffee"}, load=True)
    outputs = {d["name"].rpartition(" ")[0]: decode(d["output"]) for d in documents}
    return Evaluation(campaign, proposal, store, folder, outputs)


@pytest.fixture(scope="module")
def without_processes(in_process):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atomate2.vasp.run.VaspJob", in_process)
        yield patch


@pytest.fixture(scope="module")
def magnesia(tmp_path_factory):
    return evaluate(rocksalt("Mg", 4.3), tmp_path_factory.mktemp("MgO"), campaign_of())


@pytest.fixture(scope="module")
def manganosite(tmp_path_factory, without_processes):
    return evaluate(rocksalt("Mn", 4.5), tmp_path_factory.mktemp("MnO"), campaign_of())


@pytest.fixture(scope="module")
def half_failed(tmp_path_factory, without_processes):
    """The same with a ferromagnetic start whose second relaxation fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            VaspStepMaker,
            "_drawn_failure",
            lambda step: "missing" if step.vasp.name == "FM relax 2" else None,
        )
        return evaluate(rocksalt("Mn", 4.5), tmp_path_factory.mktemp("half"), campaign_of())


@pytest.fixture(scope="module")
def spinel(tmp_path_factory, without_processes):
    campaign = campaign_of(pre_relaxation="chgnet")
    structure = generated("MgMn2O4", campaign, seed=1)
    return evaluate(structure, tmp_path_factory.mktemp("MgMn2O4"), campaign)


@pytest.fixture
def evaluation(request):
    return request.getfixturevalue(request.param)


everywhere = pytest.mark.parametrize(
    "evaluation", ["magnesia", "manganosite", "half_failed", "spinel"], indirect=True
)


def test_magnesia_goes_all_the_way(magnesia):
    outputs, relaxed = magnesia.outputs, magnesia.relaxed
    energies = [f"NM {step}" for step in STEPS]
    assert set(outputs) == {*energies, "gate", "hybrid", "band gap"}
    assert all(isinstance(outputs[name], TaskDoc) for name in (*energies, "hybrid"))
    assert [magnesia.incar(name).get("ISIF") for name in energies[:2]] == [3, 3]
    assert magnesia.incar("NM static")["NSW"] == 0
    assert magnesia.incar("hybrid")["LHFCALC"] is True
    static = outputs["NM static"]
    assert relaxed.energy_per_atom == static.output.energy_per_atom
    assert relaxed.structure == static.structure
    assert relaxed.folder == static.dir_name
    assert [order.order for order in relaxed.magnetic_orders] == ["NM"]
    assert magnesia.verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.01)
    gap = outputs["band gap"]
    hybrid = outputs["hybrid"].calcs_reversed[0].output
    assert gap.band_gap == pytest.approx(hybrid.cbm - hybrid.vbm)
    assert gap.pbe_gap == static.output.bandgap < gap.band_gap


def assert_same_crystal(one, other):
    assert np.allclose(one.lattice.matrix, other.lattice.matrix, atol=1e-6)
    shifts = one.frac_coords - other.frac_coords
    assert np.abs(shifts - np.round(shifts)).max() < 1e-6


@everywhere
def test_a_step_starts_where_the_one_before_it_ended(evaluation):
    for start in {name.split()[0] for name in evaluation.outputs if name.endswith("static")}:
        steps = [evaluation.outputs[f"{start} {step}"] for step in STEPS]
        for before, after in pairwise(steps):
            if isinstance(after, TaskDoc):
                assert_same_crystal(after.input.structure, before.structure)


@everywhere
def test_moments_are_carried_over_from_step_to_step(evaluation):
    outputs, lowest = evaluation.outputs, evaluation.relaxed.magnetic_orders[0].start
    chains = [[f"{lowest} static", "hybrid"]]
    for start in {name.split()[0] for name in outputs if name.endswith("static")}:
        names = [f"{start} {step}" for step in STEPS]
        chains.append([name for name in names if isinstance(outputs[name], TaskDoc)])
    for chain in chains:
        for before, after in pairwise(chain):
            moments = outputs[before].structure.site_properties["magmom"]
            assert evaluation.incar(after)["MAGMOM"] == pytest.approx(moments, abs=1e-3)


@everywhere
def test_every_number_says_that_it_is_of_a_rehearsal(evaluation):
    outputs, candidate = evaluation.outputs, evaluation.candidate()
    assert outputs["band gap"].method == REHEARSAL
    assert evaluation.relaxed.level_of_theory == REHEARSAL
    for task in outputs.values():
        if isinstance(task, TaskDoc):
            assert task.additional_json["rehearsal"]["potential"] == "chgnet"
    assert candidate.is_rehearsal
    assert (candidate.level_of_theory, candidate.band_gap_method) == (REHEARSAL, REHEARSAL)
    assert candidate.energy_per_atom == evaluation.relaxed.energy_per_atom
    gap = outputs["band gap"]
    if gap.is_complete:
        assert (candidate.stage, candidate.reason) == (Stage.PHOTOANODE, None)
        assert candidate.band_gap == gap.band_gap > 0
    else:
        assert (candidate.stage, candidate.band_gap) == (Stage.POURBAIX_STABLE, None)
        assert candidate.incomplete_band_gap == gap.band_gap > 0


class TestMagneticOrders:
    def test_both_are_relaxed_and_kept(self, manganosite):
        outputs, orders = manganosite.outputs, manganosite.relaxed.magnetic_orders
        assert set(outputs) == {
            *(f"{order} {step}" for order in ("FM", "AFM") for step in STEPS),
            "gate",
            "hybrid",
            "band gap",
        }
        assert {order.start: order.order for order in orders} == {"FM": "FM", "AFM": "AFM"}
        # CHGNet knows no couplings: both have the energy of one crystal.
        energies = [order.energy_per_atom for order in orders]
        assert energies == sorted(energies)
        assert energies == pytest.approx([manganosite.relaxed.energy_per_atom] * 2, abs=1e-3)

    def test_an_antiferromagnet_starts_and_ends_as_one(self, manganosite):
        (start,) = (s for s in magnetic_starts(manganosite.proposal.structure) if s.name == "AFM")
        first = manganosite.incar("AFM relax 1")["MAGMOM"]
        assert sorted(first) == sorted(start.structure.site_properties["magmom"])
        assert sum(np.sign(first)) == 0
        moments = manganosite.outputs["AFM static"].structure.site_properties["magmom"]
        assert np.sign(moments).tolist() == np.sign(first).tolist()
        assert sum(moments) == pytest.approx(0, abs=0.01)

    def test_oxidation_states_are_stored(self, manganosite):
        for states in (
            manganosite.relaxed.oxidation_states,
            manganosite.candidate().oxidation_states,
        ):
            assert (states.average, states.is_neutral) == ({"Mn": 2, "O": -2}, True)


class TestFailures:
    def test_one_order_that_fails_leaves_the_other(self, half_failed):
        outputs, relaxed = half_failed.outputs, half_failed.relaxed
        assert relaxed.energy_per_atom == outputs["AFM static"].output.energy_per_atom
        good, failed = relaxed.magnetic_orders
        assert (good.start, good.order, good.reason) == ("AFM", "AFM", None)
        assert (failed.start, failed.energy_per_atom) == ("FM", None)
        assert failed.reason == f"FM relax 2: {outputs['FM relax 2'].reason}"
        assert "vasprun.xml" in failed.reason

    def test_the_gap_is_that_of_the_order_that_is_left(self, half_failed):
        gap = half_failed.outputs["band gap"]
        assert (gap.magnetic_order, gap.nsites) == ("AFM", 4)
        assert gap.magnetic_orders == half_failed.relaxed.magnetic_orders

    def test_gap_and_energy_without_an_order_are_incomplete(self, half_failed):
        gap, candidate = half_failed.outputs["band gap"], half_failed.candidate()
        assert gap.reason.startswith("missing magnetic order FM: FM relax 2: vasprun.xml is")
        assert (gap.is_complete, gap.is_retryable) == (False, True)
        assert not half_failed.relaxed.is_complete
        assert candidate.energy_incomplete == candidate.band_gap_reason == gap.reason

    def test_the_missing_order_alone_is_computed_and_completes_both(
        self, tmp_path, monkeypatch, without_processes
    ):
        failing = {"FM relax 2": "missing"}
        monkeypatch.setattr(
            VaspStepMaker, "_drawn_failure", lambda step: failing.get(step.vasp.name)
        )
        first = evaluate(rocksalt("Mn", 4.5), tmp_path / "first", campaign_of())
        assert not first.outputs["band gap"].is_complete
        failing.clear()
        jobs = EvaluateMaker(first.campaign, REFERENCES).jobs(first.proposal)
        again = Flow([jobs[name] for name in ("FM relax 2", "FM static", "gate")])
        (tmp_path / "again").mkdir()
        run_locally(
            Flow(queued(again)),
            store=first.store,
            create_folders=True,
            root_dir=tmp_path / "again",
            log=False,
            allow_external_references=True,
        )
        second = Evaluation(first.campaign, first.proposal, first.store, tmp_path, {})
        candidate = second.candidate()
        assert (candidate.stage, candidate.energy_incomplete) == (Stage.PHOTOANODE, None)
        assert candidate.band_gap_result.is_complete
        assert {order.start for order in candidate.band_gap_result.magnetic_orders} == {"FM", "AFM"}
        # A hybrid that is stored is not computed again, unless another order is the lowest now.
        lowest = candidate.band_gap_result.magnetic_orders[0].start
        n_hybrids = int(lowest != first.relaxed.magnetic_orders[0].start)
        assert len(list((tmp_path / "again").rglob(RUNS_FILE))) == 2 + n_hybrids

    def test_the_steps_after_a_failure_hand_it_on(self, half_failed):
        failure = half_failed.outputs["FM relax 2"]
        assert isinstance(failure, CalculationFailure)
        assert half_failed.outputs["FM static"] == failure
        n_tasks = sum(isinstance(each, TaskDoc) for each in half_failed.outputs.values())
        assert n_tasks == 5
        assert len(list(half_failed.folder.rglob(RUNS_FILE))) == n_tasks + 1

    def test_a_candidate_without_any_order_tells_of_its_failure(
        self, tmp_path, monkeypatch, without_processes
    ):
        monkeypatch.setenv(FAIL_VARIABLE, "truncated")
        failed = evaluate(rocksalt("Mg", 4.3), tmp_path, campaign_of())
        failure = failed.outputs["NM relax 1"]
        assert failed.outputs == dict.fromkeys([f"NM {s}" for s in STEPS], failure) | {
            "gate": failed.verdict
        }
        assert len(list(tmp_path.rglob(RUNS_FILE))) == 1
        for document in (failed.verdict, failed.candidate()):
            assert (document.stage, document.failure) == (Stage.FAILED, failure)
            assert document.reason == f"NM relax 1: {failure.reason}"

    def test_what_left_nothing_is_a_failure_too(self):
        engine = VaspEngine(EngineSettings.model_validate({"energy": {"name": "vasp"}}))
        with pytest.raises(CalculationError, match="it left nothing") as raised:
            engine.summarise(rocksalt("Mg", 4.3), {"NM static": None})
        assert raised.value.failure is None


class TestPreRelaxation:
    @pytest.fixture(params=["FM", "AFM"])
    def order(self, request):
        return request.param

    def test_comes_before_vasp(self, spinel, order):
        relaxation = spinel.outputs[f"{order} pre-relax"]
        assert isinstance(relaxation, ForceFieldTaskDocument)
        first = spinel.outputs[f"{order} relax 1"].input.structure
        assert_same_crystal(first, relaxation.structure.get_sorted_structure())

    def test_moments_are_attached_again(self, spinel):
        moments = dict.fromkeys(("FM", "AFM"))
        for order in moments:
            structure = spinel.outputs[f"{order} pre-relax"].structure
            moments[order] = spinel.incar(f"{order} relax 1")["MAGMOM"]
            assert len(moments[order]) == len(structure)
        assert moments["FM"] == [0.6, 5, 5, 0.6, 0.6, 0.6, 0.6]
        assert moments["AFM"] == [0, 5, -5, 0, 0, 0, 0]

    def test_steps_of_both_are_stored(self, spinel):
        lowest = spinel.relaxed.magnetic_orders[0].start
        relaxation = spinel.outputs[f"{lowest} pre-relax"].output
        # One frame for each step, and the first and the last one.
        assert spinel.relaxed.pre_relaxation_steps == relaxation.n_steps - 2 > 10
        costs = [spinel.outputs[f"{lowest} relax {n}"].additional_json["rehearsal"] for n in (1, 2)]
        assert spinel.relaxed.n_steps == sum(cost["n_ionic_steps"] for cost in costs)
