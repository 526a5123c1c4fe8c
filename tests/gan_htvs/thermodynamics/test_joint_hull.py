"""Decomposition energies of references and candidates, compared with pymatgen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from gan_htvs.thermodynamics.joint_hull import compare_on_hull
from tests.helpers import references

PHASES = {"Mg": 0.0, "Mn": 0.0, "O2": 0.0, "MgO": -3.06, "MnO2": -1.79, "MnO": -1.97}
REFERENCES = references("test", PHASES)
FORMULAS = ("MgMnO3", "Mg2MnO4", "MgMn2O4", "MgMnO2", "Mg6MnO8", "Mn2O3", "Mn3O4", "MgO2")


class Phase(NamedTuple):
    formula: str
    energy: float


def compare(phases, *, competes=True, is_reference=False):
    """Compare candidates that are all different crystals."""
    n = len(phases)
    return compare_on_hull(
        REFERENCES,
        names=[f"{phase.formula} ({i})" for i, phase in enumerate(phases)],
        formulas=[phase.formula for phase in phases],
        energies=np.array([phase.energy for phase in phases]),
        crystals=[str(i) for i in range(n)],
        competes=np.full(n, competes),
        is_reference=np.full(n, is_reference),
    )


def entry(phase):
    composition = Composition(phase.formula)
    return PDEntry(composition, phase.energy * composition.num_atoms)


def oracle(phase, others):
    """Return the decomposition energy of a phase by pymatgen, eV/atom."""
    return PhaseDiagram(others).get_e_above_hull(entry(phase), allow_negative=True)


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(Phase, st.sampled_from(FORMULAS), st.floats(-3, -1.5)),
        min_size=1,
        max_size=8,
        unique_by=lambda phase: phase.formula,
    )
)
def test_energies_agree_with_pymatgen(phases):
    known = [entry(Phase(*item)) for item in PHASES.items()]
    diagram = PhaseDiagram(known + [entry(phase) for phase in phases])
    energies, decomposes_to = compare(phases)
    for i, phase in enumerate(phases):
        others = known + [entry(other) for other in phases if other is not phase]
        assert energies[i] == pytest.approx(oracle(phase, others), abs=1e-8)
        above = diagram.get_e_above_hull(entry(phase))
        assert max(energies[i], 0) == pytest.approx(above, abs=1e-8)
        assert sum(decomposes_to[i].values()) == pytest.approx(1)


def test_reference_phases_are_compared_with_the_others():
    phases = [Phase(*item) for item in PHASES.items()]
    energies, decomposes_to = compare(phases, is_reference=True)
    for i, phase in enumerate(phases):
        if Composition(phase.formula).is_element:
            assert energies[i] == 0
            assert decomposes_to[i] == {phase.formula: pytest.approx(1)}
        else:
            others = [entry(other) for other in phases if other is not phase]
            assert energies[i] == pytest.approx(oracle(phase, others), abs=1e-8)
            assert energies[i] < 0
            assert phase.formula not in decomposes_to[i]


def test_element_with_a_polymorph_decomposes_into_it():
    energies, decomposes_to = compare([Phase("Mn", -0.02), Phase("Mn", 0.03)])
    assert energies == pytest.approx([-0.02, 0.05])
    assert decomposes_to == [{"Mn": pytest.approx(1)}, {"Mn (0)": pytest.approx(1)}]


def test_implausible_candidate_is_compared_with_the_hull_of_all():
    energies, _ = compare([Phase("MgO", -4.0)], competes=False)
    assert energies == pytest.approx([-0.94])
