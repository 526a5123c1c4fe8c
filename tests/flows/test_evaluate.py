from __future__ import annotations

import json

import pytest
from jobflow import JobStore, run_locally
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Lattice, Structure

from flows.evaluate import EvaluateMaker, energy_jobs
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Origin, Proposal, Relaxed, Stage
from gan_htvs.engines import EngineSettings
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

REFERENCES = "uuid-of-the-references"
CAMPAIGN = Campaign.model_validate(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 4, "O": 4}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "engines": {"band_gap": {"name": "none"}},
    }
)


MAGNESIA = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


@pytest.fixture
def store():
    """A job store that holds the reference set, with CHGNet's energies of Mg and MgO."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    put_references(store)
    return store


def put_references(store, magnesia=-6.314):
    energies = {"Mg": -1.58, "O2": -4.94795546875, "MgO": magnesia}
    references = ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory="CHGNet-0.3.0")
            for f, e in energies.items()
        )
    )
    output = jsanitize(references, strict=True)
    store.update({"uuid": REFERENCES, "index": 1, "output": output, "metadata": {}})


def evaluate(store, tmp_path, structure):
    proposal = Proposal(
        candidate_id="c0ffee",
        structure=structure,
        origin=Origin(proposer="gan", requested_composition="MgO", index=0),
    )
    flow = EvaluateMaker(CAMPAIGN, REFERENCES).make(proposal)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    documents = {d["metadata"].get("step"): d for d in store.query({"metadata.campaign": "mg-o"})}
    return {
        step: MontyDecoder().process_decoded(document["output"])
        for step, document in documents.items()
    }


def test_what_a_gate_adds_has_workers_of_its_own_and_no_structure(store):
    """The jobs of the jobs of a shard: a child of a child."""
    campaign = CAMPAIGN.model_copy(
        update={"engines": EngineSettings.model_validate({"band_gap": {"name": "gpaw"}})}
    )
    proposal = Proposal(
        candidate_id="c0ffee",
        structure=MAGNESIA,
        origin=Origin(proposer="gan", requested_composition="MgO", index=0),
    )
    relaxed = Relaxed(
        structure=MAGNESIA,
        energy_per_atom=-6.314,
        level_of_theory="CHGNet-0.3.0",
        converged=True,
    )
    gate = EvaluateMaker(campaign, REFERENCES).gate(proposal, relaxed)
    assert gate.config.manager_config["_category"] == "cpu"
    (gap,) = flow_to_workflow(gate.run(store).detour).fws
    assert (gap.spec["step"], gap.spec["_category"]) == ("band gap", "hse")
    assert gap.spec["_priority"] > gate.config.manager_config["_priority"]
    assert "lattice" not in json.dumps(gap.to_db_dict(), default=str)


def test_magnesia_passes_the_gate_and_asks_for_a_gap(store, tmp_path):
    stretched = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.4), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()
    outputs = evaluate(store, tmp_path, stretched)
    verdict = outputs["gate"]
    assert verdict.relaxed.converged
    assert verdict.relaxed.volume_change < -0.05
    assert verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.01)
    assert verdict.assessment.pourbaix.minimum == pytest.approx(0.061, abs=0.06)
    assert verdict.stage is Stage.POURBAIX_STABLE
    assert "none" in outputs["band gap"].reason


def test_a_hole_of_the_potential_gets_no_gap(store, tmp_path):
    put_references(store, magnesia=-6.1)  # what CHGNet says of MgO now lies far below the hull
    magnesia = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()
    outputs = evaluate(store, tmp_path, magnesia)
    assert outputs["gate"].stage is Stage.REJECTED
    assert "hole of the potential" in outputs["gate"].reason
    assert "band gap" not in outputs


def test_atoms_that_fly_apart_are_rejected(store, tmp_path):
    lonely = Structure(Lattice.cubic(30), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    verdict = evaluate(store, tmp_path, lonely)["gate"]
    assert (verdict.stage, verdict.assessment) == (Stage.REJECTED, None)
    assert "bad_volume" in verdict.reason


def test_a_crashed_relaxation_is_a_failure_with_a_reason(store, tmp_path):
    unknown_to_chgnet = Structure(Lattice.cubic(4), ["Og", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    outputs = evaluate(store, tmp_path, unknown_to_chgnet)
    assert "relax" not in outputs
    assert outputs["gate"].stage is Stage.FAILED
    assert "without a result" in outputs["gate"].reason
    assert "band gap" not in outputs


@pytest.mark.parametrize(("proposer", "is_reference"), [("known_phase", True), ("gan", False)])
def test_vasp_is_told_which_structures_are_reference_phases(proposer, is_reference):
    engines = {"energy": {"name": "rehearsal"}, "band_gap": {"name": "none"}}
    campaign = CAMPAIGN.model_copy(update={"engines": EngineSettings.model_validate(engines)})
    proposal = Proposal(
        candidate_id="c0ffee",
        structure=MAGNESIA,
        origin=Origin(proposer=proposer, requested_composition="MgO", index=0),
    )
    jobs = energy_jobs(proposal, campaign, "shared")
    assert {each.maker.is_reference for each in jobs.values()} == {is_reference}
