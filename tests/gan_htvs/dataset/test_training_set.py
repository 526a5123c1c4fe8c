from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.structures.matching import structure_matcher, unique_indices
from gan_htvs.structures.point_cloud import decode
from gan_htvs.structures.validity import check_geometry
from tests.helpers import MG_MN_O, OXIDATION_STATES, spinel


@pytest.fixture(scope="module")
def dataset():
    return build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings())


@pytest.fixture(scope="module")
def structures(dataset):
    return decode(dataset.images, MG_MN_O).to_structures()


def ilmenite() -> Structure:
    # Wechsler & Prewitt, Am. Mineral. 1984, 69, 176: FeTiO3, with Mg for Fe and Mn for Ti.
    return Structure.from_spacegroup(
        "R-3",
        Lattice.hexagonal(5.088, 14.086),
        ["Mg", "Mn", "O"],
        [[0, 0, 0.3554], [0, 0, 0.1465], [0.3174, 0.0233, 0.2452]],
    ).get_primitive_structure()


def mg6mno8() -> Structure:
    # Kasper & Prener, Acta Cryst. 1954, 7, 246: rocksalt with an eighth of the cations missing.
    return Structure.from_spacegroup(
        "Fm-3m",
        Lattice.cubic(8.38),
        ["Mn", "Mg", "O", "O"],
        [[0, 0, 0], [0, 0.25, 0.25], [0.25, 0.25, 0.25], [0.235, 0, 0]],
    ).get_primitive_structure()


@pytest.mark.parametrize(
    "crystal",
    [spinel().get_primitive_structure(), ilmenite(), mg6mno8()],
    ids=["MgMn2O4 spinel", "MgMnO3 ilmenite", "Mg6MnO8"],
)
def test_known_crystals_are_in_the_dataset(structures, crystal):
    matcher = structure_matcher()
    assert any(matcher.fit(crystal, structure) for structure in structures)


def test_normal_spinel_has_manganese_in_octahedra(dataset, structures):
    matcher = structure_matcher()
    normal_spinel = spinel()
    structure = next(s for s in structures if matcher.fit(normal_spinel, s))
    neighbors = {
        site.specie.symbol: sum(
            n.specie.symbol == "O" and n.nn_distance < 2.6
            for n in structure.get_neighbors(site, 2.6)
        )
        for site in structure
        if site.specie.symbol != "O"
    }
    assert neighbors == {"Mg": 4, "Mn": 6}


def test_inverse_spinel_and_tunnel_phases_are_in_the_dataset(dataset):
    origins = {
        (MG_MN_O.formula(tuple(row)), label)
        for row, label in zip(dataset.counts.tolist(), dataset.labels, strict=True)
    }
    assert {
        ("Mg4Mn2O8", "spinel"),
        ("MgMn4O8", "hollandite"),
        ("Mg2Mn3O8", "Mn5O8"),
    } <= origins


def test_dataset_covers_all_compositions(dataset):
    assert len(dataset) >= 300
    assert dataset.n_compositions == len(list(MG_MN_O.compositions(OXIDATION_STATES))) == 172
    assert len(set(dataset.labels)) > 20
    assert len(dataset.labels) == len(dataset)


def test_all_structures_are_valid_and_charge_balanced(dataset, structures):
    assert dataset.images.shape == (len(dataset), 30, 3)
    assert dataset.images.dtype == np.float32
    for counts, structure in zip(dataset.counts.tolist(), structures, strict=True):
        assert MG_MN_O.counts(structure) == tuple(counts)
        assert MG_MN_O.is_charge_balanced(tuple(counts), OXIDATION_STATES)
        distances = {("O", "O"): 2.15, ("Mg", "O"): 1.5, ("Mn", "O"): 1.5, ("Mg", "Mn"): 2.15}
        assert check_geometry(structure, pair_distances=distances) is None
        assert max(structure.lattice.abc) <= 30


def test_volumes_are_typical_of_oxides(structures):
    volumes = [structure.volume / len(structure) for structure in structures]
    assert 9 < np.median(volumes) < 14


def test_structures_are_unique(structures):
    assert unique_indices(structures) == list(range(len(structures)))


def test_dataset_is_reproducible():
    system = ChemicalSystem(caps={"Mg": 2, "Mn": 3, "O": 5})
    first, second = (build_dataset(system, OXIDATION_STATES, DatasetSettings()) for _ in range(2))
    assert first.hash == second.hash
    assert first.summary() == second.summary()
    fewer = build_dataset(system, OXIDATION_STATES, DatasetSettings(max_structures=10))
    assert len(fewer) == fewer.n_compositions == 10
    assert fewer.hash != first.hash
    assert fewer.summary()["rejected"]["max_structures"] == len(first) - 10


def test_vanadium_oxides_need_only_configuration():
    system = ChemicalSystem(caps={"V": 4, "O": 10})
    states = {"V": (2.0, 5.0), "O": (-2.0, -2.0)}
    progress: list[tuple[int, int]] = []
    dataset = build_dataset(
        system,
        states,
        DatasetSettings(),
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert progress[-1][0] == progress[-1][1] == len(progress)
    formulas = {system.formula(tuple(row)) for row in dataset.counts.tolist()}
    assert {"VO", "V3O4", "V4O6", "V2O4", "V4O10"} <= formulas
    # V2O5: square pyramids with one short vanadyl bond.
    assert "V2O5" in dataset.labels


@pytest.mark.parametrize(
    ("caps", "states"),
    [
        ({"Mg": 4, "Mn": 4}, {"Mg": (2, 2), "Mn": (2, 4)}),
        ({"Ti": 4, "N": 4, "O": 4}, {"Ti": (2, 4), "N": (-3, 5), "O": (-2, -2)}),
        ({"He": 2, "O": 2}, {"He": (0, 2), "O": (-2, -2)}),
        ({"Mg": 1, "O": 4}, {"Mg": (1, 1), "O": (-2, -2)}),
    ],
    ids=["no anions", "sign not fixed", "no bond valences", "no valid structure"],
)
def test_system_without_decorated_prototypes_is_a_user_error(caps, states):
    with pytest.raises(UserError, match=r"dataset\.source"):
        build_dataset(ChemicalSystem(caps=caps), states, DatasetSettings())


def test_oxynitrides_order_both_anions():
    system = ChemicalSystem(caps={"Ta": 2, "N": 2, "O": 2})
    states = {"Ta": (5.0, 5.0), "N": (-3.0, -3.0), "O": (-2.0, -2.0)}
    dataset = build_dataset(system, states, DatasetSettings())
    assert {tuple(row) for row in dataset.counts.tolist()} == {(1, 1, 1), (2, 2, 2)}


def test_split_holds_out_a_fixed_fraction_and_keeps_every_composition(dataset):
    training, held_out = dataset.split(0.2)
    assert len(training) + len(held_out) == len(dataset)
    assert 0.1 * len(dataset) < len(held_out) < 0.25 * len(dataset)
    assert training.n_compositions == dataset.n_compositions
    assert set(training.labels) | set(held_out.labels) == set(dataset.labels)
    larger_training, smaller_held_out = dataset.split(0.1)
    held_out_images = {image.tobytes() for image in held_out.images}
    assert {image.tobytes() for image in smaller_held_out.images} <= held_out_images
    assert len(larger_training) > len(training)
