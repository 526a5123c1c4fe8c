from __future__ import annotations

import pytest
from pymatgen.core import Element

from flows.references import ReferencesMaker, reference_survivors
from flows.routing import jobs_of
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.references import ReferencePhase
from tests.helpers import CHGNET, mg_o, output_of, relaxed, rocksalt

PINNED = ReferencePhase("O2", rocksalt("O", 3.0, "O"), "pinned", pinned_energy_per_atom=-4.948)


def test_reference_set_has_one_level_of_theory_and_pinned_phases():
    references = output_of(ReferencesMaker().make(["Mg", "O"]))
    assert references.level_of_theory == CHGNET
    energies = {entry.name: entry.energy_per_atom for entry in references.entries}
    assert energies["O2"] == -4.94795546875
    assert energies["MgO periclase"] == pytest.approx(-6.314, abs=0.005)


def test_batches_give_the_same_reference_set(monkeypatch):
    together = output_of(ReferencesMaker().make(["Mg", "O"]))
    monkeypatch.setattr("flows.energy.REFERENCES_PER_BATCH", 2)
    flow = ReferencesMaker().make(["Mg", "O"])
    assert len(jobs_of(flow)) == 3
    assert output_of(flow) == together


def test_missing_reference_phases_are_refused():
    with pytest.raises(UserError, match="is not a list of phases"):
        ReferencesMaker().make([])
    with pytest.raises(UserError, match="no reference phases are known for Xe"):
        ReferencesMaker().make(["Mg", "Xe"])


def test_reference_phases_are_structures_to_evaluate():
    campaign = mg_o()
    survivors = reference_survivors(campaign, {"MgO periclase": relaxed()}, CHGNET)
    (survivor,) = survivors
    assert survivor.origin.is_reference
    assert survivor.origin.label == "MgO periclase"
    assert survivor.relaxation.relaxed == relaxed()


def test_pinned_phases_are_not_relaxed():
    flow = ReferencesMaker().make([PINNED])
    assert len(flow.jobs) == 1
    (entry,) = output_of(flow).entries
    assert entry.energy_per_atom == -4.948


def test_references_of_elements_and_of_nothing_else():
    flow = ReferencesMaker().make([Element("Mg"), "O"])
    assert [job.name for job in flow.jobs] == [
        job.name for job in ReferencesMaker().make(["Mg", "O"]).jobs
    ]
    for invalid in (None, "Mg", [], ["Xx"], [rocksalt()], [None]):
        with pytest.raises(UserError, match="list of phases"):
            ReferencesMaker().make(invalid)
