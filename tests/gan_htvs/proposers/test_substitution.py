from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice

from gan_htvs.chemistry import ChemicalSystem
from gan_htvs.dataset.decoration import decorate_composition, decorate_prototypes
from gan_htvs.errors import UserError
from gan_htvs.matching import structure_matcher
from gan_htvs.proposers.sampling import sample
from gan_htvs.proposers.substitution import Substitution
from gan_htvs.spacegroup import primitive_crystal

MG_MN_O = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
STATES = {"Mg": (2, 2), "Mn": (2, 4), "O": (-2, -2)}


@pytest.fixture(scope="module")
def substitution() -> Substitution:
    return Substitution(MG_MN_O, STATES)


def test_spinel_is_among_the_proposals(substitution):
    spinel = primitive_crystal(
        "Fd-3m",
        Lattice.cubic(8.4),
        [("Mg", 0, 0, 0), ("Mn", 5 / 8, 5 / 8, 5 / 8), ("O", 0.3874, 0.3874, 0.3874)],
    )
    found = sample(substitution, (2, 4, 8), 100, seed=0)
    assert any(structure_matcher().fit(spinel, each) for each in found.structures)
    untouched = np.array([each.max_displacement for each in found.samples]) < 1e-9
    assert untouched.mean() > 0.5  # the push leaves sound structures alone


def test_the_list_ends_and_no_seed_changes_it(substitution):
    first, second = (sample(substitution, (1, 2, 4), 1000, seed=seed) for seed in (0, 1))
    assert first.exhausted
    assert len(first.samples) < 1000
    assert first.structures == second.structures


def test_the_first_proposals_are_those_of_the_dataset(substitution):
    system = ChemicalSystem(caps={"Mg": 2, "O": 2})
    states = {"Mg": (2, 2), "O": (-2, -2)}
    everywhere, _ = decorate_prototypes(system, states, max_per_composition=50)
    of_one = decorate_composition(system, (2, 2), states)
    expected = [c for c in everywhere if system.counts(c.structure) == (2, 2)]
    assert len(of_one) == len(expected) > 2
    assert [c.prototype for c in of_one] == [c.prototype for c in expected]
    for ours, theirs in zip(of_one, expected, strict=True):
        np.testing.assert_allclose(ours.structure.frac_coords, theirs.structure.frac_coords)


def test_metals_have_no_prototypes():
    alloy = ChemicalSystem(caps={"Mg": 2, "Al": 2})
    with pytest.raises(UserError, match="cations and anions"):
        Substitution(alloy, {"Mg": (0, 0), "Al": (0, 0)})
