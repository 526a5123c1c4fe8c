from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.structures.point_cloud import decode, encode, expand_coords, squeeze_coords
from gan_htvs.structures.validity import RejectionReason
from tests.helpers import MG_MN_O

V_O = ChemicalSystem(caps={"V": 8, "O": 16})


@st.composite
def crystals(draw: st.DrawFn, system: ChemicalSystem) -> Structure:
    counts = [draw(st.integers(1, cap)) for cap in system.max_counts]
    symbols = np.repeat(system.elements, counts)
    order = draw(st.permutations(range(len(symbols))))
    coords = draw(
        arrays(float, (len(symbols), 3), elements=st.floats(-1, 2, allow_nan=False, width=32))
    )
    lengths = [draw(st.floats(2, 29.9)) for _ in range(3)]
    angles = [draw(st.floats(60, 115)) for _ in range(3)]
    return Structure(Lattice.from_parameters(*lengths, *angles), symbols[order].tolist(), coords)


def group_by_element(structure: Structure, system: ChemicalSystem) -> Structure:
    sites = sorted(structure, key=lambda site: system.elements.index(site.specie.symbol))
    return Structure.from_sites(sites)


@pytest.mark.parametrize("system", [MG_MN_O, V_O], ids=lambda s: s.chemsys)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_decoding_inverts_encoding(system: ChemicalSystem, data: st.DataObject) -> None:
    structure = data.draw(crystals(system))
    images = encode([structure], system)
    assert images.shape == (1, 2 + system.max_atoms, 3)
    assert images.dtype == np.float32

    (back,) = decode(images, system).to_structures()

    expected = group_by_element(structure, system)
    assert isinstance(back, Structure)
    assert back.species == expected.species
    np.testing.assert_allclose(back.lattice.abc, expected.lattice.abc, atol=1e-4)
    np.testing.assert_allclose(back.lattice.angles, expected.lattice.angles, atol=1e-3)
    difference = back.frac_coords - expected.frac_coords
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-5)


@given(arrays(float, (4, 3), elements=st.floats(0, 1, exclude_max=True)))
def test_squeezed_coordinates_differ_from_padding(coords: np.ndarray) -> None:
    squeezed = squeeze_coords(coords)
    assert (squeezed.sum(axis=1) >= 0.5 - 1e-12).all()
    assert (squeezed <= 5 / 6).all()
    back = expand_coords(squeezed)
    assert ((back >= 0) & (back < 1)).all()
    difference = back - coords
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-12)


def test_rows_are_scaled_as_published() -> None:
    structure = Structure(Lattice.orthorhombic(3, 6, 15), ["O", "V"], [[0, 0.5, 0.25], [0, 0, 0]])
    image = encode([structure], V_O)[0]
    np.testing.assert_allclose(image[0], [0.1, 0.2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(image[1], 0.5, rtol=1e-6)
    np.testing.assert_allclose(image[2], 1 / 6, rtol=1e-6)
    np.testing.assert_allclose(image[10], [1 / 6, 0.5, 1 / 3], rtol=1e-6)
    assert not image[3:10].any()
    assert not image[11:].any()


def test_element_without_atoms_is_rejected() -> None:
    structure = Structure(Lattice.cubic(4), ["V", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    image = encode([structure], V_O)
    image[:, 10:] = 0
    cells = decode(image, V_O)
    assert cells.to_structures() == [RejectionReason.EMPTY_ELEMENT]
    assert cells.presence.sum() == 1


def test_flat_and_non_finite_cells_are_rejected() -> None:
    structure = Structure(Lattice.cubic(4), ["V", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    images = np.repeat(encode([structure], V_O), 3, axis=0)
    images[0, 1] = np.array([40, 40, 120]) / 180
    images[1, 2, 0] = np.nan
    reasons = decode(
        images, V_O, presence=np.asarray(images[[2, 2, 2], 2:].any(axis=2))
    ).to_structures()
    assert reasons[:2] == [RejectionReason.IMPOSSIBLE_CELL, RejectionReason.NOT_FINITE]
    assert isinstance(reasons[2], Structure)


def test_presence_overrides_row_sums() -> None:
    structure = Structure(Lattice.cubic(4), ["V", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    image = encode([structure], V_O)
    presence = np.zeros((1, 24), dtype=bool)
    presence[0, [0, 8, 9]] = True
    assert decode(image, V_O).counts.tolist() == [[1, 1]]
    assert decode(image, V_O, presence=presence).counts.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (Structure(Lattice.cubic(4), ["V"], [[0, 0, 0]]), "0 O"),
        (Structure(Lattice.cubic(4), ["V", "N"], np.zeros((2, 3))), "N"),
        (Structure(Lattice.cubic(9), ["V"] * 9 + ["O"], np.zeros((10, 3))), "9 V"),
        (Structure(Lattice.cubic(31), ["V", "O"], np.zeros((2, 3))), "31.0 A"),
    ],
)
def test_structures_outside_the_system_are_refused(cell: Structure, problem: str) -> None:
    good = Structure(Lattice.cubic(4), ["V", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match=f"structure 1 .*{problem}"):
        encode([good, cell], V_O)


def test_images_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="O-V"):
        decode(np.zeros((3, 30, 3)), V_O)


def test_rounding_errors_do_not_change_images():
    exact = Structure(
        Lattice.tetragonal(3.0, 4.3),
        ["Mg", "Mn", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [1 / 3, 2 / 3, 0], [0, 0, 0.5]],
    )
    noise = np.random.default_rng(0).normal(scale=1e-12, size=(4, 3))
    noisy = Structure(
        Lattice(exact.lattice.matrix * (1 + 1e-12)), exact.species, exact.frac_coords + noise
    )
    assert np.array_equal(encode([noisy], MG_MN_O), encode([exact], MG_MN_O))
