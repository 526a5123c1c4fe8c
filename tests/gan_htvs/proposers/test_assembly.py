"""Polyanions in samples of a generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ProposerName
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.proposers.assembly import Assembly, _regular
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.proposers.sampling import sample

CA_C_O = ChemicalSystem(caps={"Ca": 4, "C": 4, "O": 12})
CARBONATE = {"Ca": (2.0, 2.0), "C": (4.0, 4.0), "O": (-2.0, -2.0)}
NA_S_O = ChemicalSystem(caps={"Na": 4, "S": 2, "O": 8})
SULFATE = {"Na": (1.0, 1.0), "S": (6.0, 6.0), "O": (-2.0, -2.0)}


def random_structure(amounts, seed=0):
    rng = np.random.default_rng(seed)
    species = [symbol for symbol, n in amounts.items() for _ in range(n)]
    return Structure(Lattice.cubic(6.5), species, rng.random((len(species), 3)))


def bonds_of(structure, center, radius=1.7):
    """Return the oxygen neighbors of every center."""
    return [
        [n for n in structure.get_neighbors(site, radius) if n.specie.symbol == "O"]
        for site in structure
        if site.specie.symbol == center
    ]


@pytest.mark.parametrize(
    ("system", "states", "amounts", "center", "number", "length"),
    [
        (CA_C_O, CARBONATE, {"Ca": 2, "C": 2, "O": 6}, "C", 3, 1.2855),
        (NA_S_O, SULFATE, {"Na": 4, "S": 2, "O": 8}, "S", 4, 1.501),
    ],
)
def test_centers_bind_their_anions_at_the_length_of_bond_valences(
    system, states, amounts, center, number, length
):
    structure = random_structure(amounts)
    assembly = Assembly.of(system, states)
    assert assembly is not None
    assembled = assembly.assemble(structure)
    n_cations = len(structure) - amounts["O"]
    np.testing.assert_allclose(
        assembled.frac_coords[:n_cations], structure.frac_coords[:n_cations], atol=1e-9
    )
    for neighbors in bonds_of(assembled, center):
        # Random polyanions overlap, so there are neighbors at other distances.
        assert sum(abs(n.nn_distance - length) < 0.003 for n in neighbors) == number


@pytest.mark.parametrize(("number", "cosine"), [(2, -1), (3, -1 / 2), (4, -1 / 3)])
@pytest.mark.parametrize("spread", [0, 1])
def test_anions_form_regular_polyhedra(number, cosine, spread):
    vectors = 0.1 + spread * np.random.default_rng(1).standard_normal((number, 3))
    directions = _regular(vectors)
    products = (directions @ directions.T)[np.triu_indices(number, 1)]
    np.testing.assert_allclose(products, cosine, atol=0.02)


@pytest.mark.parametrize(
    ("elements", "states"),
    [
        ("Mg Mn O", {"Mg": (2, 2), "Mn": (2, 4), "O": (-2, -2)}),
        ("La S O", {"La": (3, 3), "S": (-2, -2), "O": (-2, -2)}),
        ("Ca C O", {}),
        ("K Si F", {"K": (1, 1), "Si": (4, 4), "F": (-1, -1)}),
    ],
)
def test_other_systems_are_not_assembled(elements, states):
    system = ChemicalSystem(caps=dict.fromkeys(elements.split(), 4))
    assert Assembly.of(system, states) is None


def test_shared_anions_are_not_assembled():
    system = ChemicalSystem(caps={"Ca": 2, "Si": 2, "O": 6})
    assembly = Assembly.of(system, {"Ca": (2, 2), "Si": (4, 4), "O": (-2, -2)})
    assert assembly is not None
    metasilicate = random_structure({"Ca": 2, "Si": 2, "O": 6})
    assert assembly.assemble(metasilicate) == metasilicate


def test_undecided_signs_are_a_user_error():
    system = ChemicalSystem(caps={"C": 2, "H": 2, "O": 6})
    with pytest.raises(UserError, match="one sign"):
        Assembly.of(system, {"C": (4, 4), "H": (-1, 1), "O": (-2, -2)})


def test_samples_of_a_generator_have_intact_polyanions():
    parameters = replace(PRESETS["tuned"], width=0.02)
    untrained = TrainedGenerator.build(NA_S_O, parameters, seed=0)
    proposer = make_proposer(ProposerName.GAN, NA_S_O, SULFATE, untrained)
    result = sample(proposer, (2, 1, 4), 2, seed=0, max_tries_per_structure=100)
    assert len(result.samples) == 2
    for structure in result.structures:
        assert [len(neighbors) for neighbors in bonds_of(structure, "S")] == [4]
