from __future__ import annotations

import pytest
from jobflow import run_locally

from flows.references import ReferencesMaker, reference_survivors
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.references import ReferencePhase
from tests.helpers import CHGNET, memory_store, mg_o, relaxed, rocksalt

PINNED = ReferencePhase("O2", rocksalt("O", 3.0, "O"), "pinned", pinned_energy_per_atom=-4.948)


def test_references_are_a_set_of_one_level_with_the_pinned_phases():
    flow = ReferencesMaker().make(["Mg", "O"])
    store = memory_store()
    run_locally(flow, store=store, log=False)
    references = flow.output.resolve(store)
    assert references.level_of_theory == CHGNET
    energies = {entry.name: entry.energy_per_atom for entry in references.entries}
    assert energies["O2"] == -4.94795546875
    assert energies["MgO periclase"] == pytest.approx(-6.314, abs=0.005)


def test_there_is_no_hull_without_a_phase():
    with pytest.raises(UserError, match="is not a list of phases"):
        ReferencesMaker().make([])
    with pytest.raises(UserError, match="no reference phases are known for Xe"):
        ReferencesMaker().make(["Mg", "Xe"])


def test_reference_phases_are_evaluated_beside_candidates():
    campaign = mg_o()
    survivors = reference_survivors(campaign, {"MgO periclase": relaxed()}, CHGNET)
    (survivor,) = survivors
    assert survivor.proposal.origin.is_reference
    assert survivor.proposal.origin.label == "MgO periclase"
    assert survivor.relaxed == relaxed()


def test_where_all_energies_are_pinned_nothing_is_relaxed():
    flow = ReferencesMaker().make([PINNED])
    assert len(flow.jobs) == 1
    store = memory_store()
    run_locally(flow, store=store, log=False)
    (entry,) = flow.output.resolve(store).entries
    assert entry.energy_per_atom == -4.948
