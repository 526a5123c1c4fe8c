"""Polyanions in prototypes and training sets."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.ions import fit_volume
from gan_htvs.dataset.polyanions import Polyanions, center_elements
from gan_htvs.dataset.training_set import build_dataset

CHARGES = {"Mg": 2, "Ca": 2, "Ba": 2, "C": 4, "Si": 4, "O": -2}


def calcite(metal: str = "Ca") -> Structure:
    # Markgraf & Reeder, Am. Mineral. 1985, 70, 590.
    return Structure.from_spacegroup(
        "R-3c",
        Lattice.hexagonal(4.988, 17.061),
        [metal, "C", "O"],
        [[0, 0, 0], [0, 0, 0.25], [0.2567, 0, 0.25]],
    ).get_primitive_structure()


def charges_of(structure: Structure) -> np.ndarray:
    return np.array([float(CHARGES[site.specie.symbol]) for site in structure])


def distances(structure: Structure, first: str, second: str, radius: float) -> list[float]:
    """Return the distances of the second element around all sites of the first."""
    return [
        neighbor.nn_distance
        for site in structure
        if site.specie.symbol == first
        for neighbor in structure.get_neighbors(site, radius)
        if neighbor.specie.symbol == second
    ]


def test_centers_are_nonmetals_and_metalloids():
    assert center_elements(["Ca", "C", "H", "S", "Si", "Ti", "B"]) == ("C", "S", "Si", "B")


def test_polyanions_keep_their_bonds_when_a_cell_is_scaled():
    structure = calcite()
    polyanions = Polyanions.find(structure, charges_of(structure))
    assert polyanions is not None
    assert len(polyanions.anions) == len(set(polyanions.anions)) == 6
    larger = polyanions.scaled(structure, 1.1)
    assert larger.volume == pytest.approx(1.1**3 * structure.volume)
    assert distances(larger, "C", "O", 1.6) == pytest.approx([1.280] * 6, abs=0.002)
    assert polyanions.scaled(structure, 1.0).matches(structure)


@pytest.mark.parametrize(
    "structure",
    [
        Structure(Lattice.cubic(8), ["Si", "Si", "O"], [[0, 0, 0], [0.4, 0, 0], [0.2, 0, 0]]),
        Structure.from_spacegroup(  # six neighbors
            "Fm-3m", Lattice.cubic(4.2), ["C", "O"], [[0, 0, 0], [0.5] * 3]
        ),
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5] * 3]),
    ],
    ids=["shared anions", "octahedra", "no centers"],
)
def test_other_structures_have_no_polyanions(structure):
    assert Polyanions.find(structure, charges_of(structure)) is None


@pytest.mark.parametrize(("metal", "volume"), [("Mg", 9.31), ("Ca", 12.26)])
def test_carbonates_have_the_measured_volumes(metal, volume):
    # Magnesite: Bromiley et al., Am. Mineral. 2007, 92, 829.
    structure = calcite(metal)
    structure.scale_lattice(11 * len(structure))
    fit = fit_volume(structure, charges_of(structure))
    assert fit is not None
    fitted, instability = fit
    assert instability < 0.2
    assert fitted.volume / len(fitted) == pytest.approx(volume, rel=0.09)
    assert distances(fitted, "C", "O", 1.6) == pytest.approx([1.285] * 6, abs=0.02)


def test_training_set_of_carbonates_has_only_intact_polyanions():
    system = ChemicalSystem(caps={"Ca": 4, "C": 4, "O": 12})
    states = {"Ca": (2.0, 2.0), "C": (4.0, 4.0), "O": (-2.0, -2.0)}
    dataset = build_dataset(system, states, DatasetSettings())
    assert any("Calcite" in label for label in dataset.labels)
    assert "aragonite" in dataset.labels
    for structure in dataset.structures():
        around = distances(structure, "C", "O", 1.6)
        assert len(around) in (3 * structure.composition["C"], 4 * structure.composition["C"])
        assert 1.2 < min(around) < max(around) < 1.45


def test_polyanions_without_a_prototype_are_a_user_error():
    system = ChemicalSystem(caps={"Ca": 1, "C": 1, "O": 3})
    states = {"Ca": (2.0, 2.0), "C": (4.0, 4.0), "O": (-2.0, -2.0)}
    with pytest.raises(UserError, match=r"dataset\.source 'prototypes'.*polyanions of C"):
        build_dataset(system, states, DatasetSettings())


def test_polyanion_lattices_are_only_for_polyanions():
    system = ChemicalSystem(caps={"Ca": 4, "Ti": 4, "O": 12})
    states = {"Ca": (2.0, 2.0), "Ti": (4.0, 4.0), "O": (-2.0, -2.0)}
    dataset = build_dataset(system, states, DatasetSettings(max_per_composition=20))
    assert not {"aragonite", "anhydrite", "olivine", "beta K2SO4"} & set(dataset.labels)
