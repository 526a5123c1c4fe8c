"""Synthetic bands have the properties of real ones."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.vasp.inputs import Kpoints
from pymatgen.io.vasp.sets import MPStaticSet

from launchers.rehearsal.inputs import read_inputs
from launchers.rehearsal.spectrum import spectrum_of, synthetic_gap


def spectrum(inputs):
    return spectrum_of(inputs, inputs.structure.lattice, inputs.moments)


def electrons(inputs, bands):
    per_band = 2 / inputs.n_spins
    return per_band * (bands.occupations * inputs.weights[:, None]).sum(axis=(1, 2))


class TestSyntheticGap:
    def test_grows_with_exact_exchange_and_vanishes_in_elements(self):
        oxide = Composition("MgO")
        assert synthetic_gap(oxide, is_hybrid=False) == pytest.approx(
            0.4 * synthetic_gap(oxide, is_hybrid=True)
        )
        assert synthetic_gap(Composition("Mn"), is_hybrid=True) == 0


class TestSpectrum:
    @pytest.mark.parametrize("tags", [{}, {"ISPIN": 1, "MAGMOM": None}])
    def test_insulator_holds_its_electrons_below_the_gap(self, mgo, written, tags):
        inputs = read_inputs(written(mgo, MPStaticSet, **tags))
        bands = spectrum(inputs)
        assert electrons(inputs, bands).sum() == pytest.approx(inputs.parameters["NELECT"])
        assert set(np.unique(bands.occupations.round(4))) == {0, 1}
        filled = bands.occupations > 0.5
        gap = np.ptp([bands.energies[~filled].min(), bands.energies[filled].max()])
        assert gap >= synthetic_gap(mgo.composition, is_hybrid=False) - 1e-9
        assert (np.diff(bands.energies, axis=2) >= 0).all()

    def test_edges_lie_at_gamma_and_at_the_zone_boundary(self, mgo, written):
        folder = written(mgo, MPStaticSet)
        Kpoints.gamma_automatic((12, 12, 12)).write_file(folder / "KPOINTS")
        inputs = read_inputs(folder)
        bands = spectrum(inputs)
        filled, empty = bands.occupations[0] > 0.5, bands.occupations[0] < 0.5
        top = np.where(filled, bands.energies[0], -np.inf).max(axis=1)
        bottom = np.where(empty, bands.energies[0], np.inf).min(axis=1)
        assert not inputs.points[top.argmax()].any()
        assert inputs.points[bottom.argmin()].any()
        assert bottom.min() - top.max() == pytest.approx(
            synthetic_gap(mgo.composition, is_hybrid=False)
        )

    def test_has_the_symmetry_of_the_lattice(self, mgo, written):
        folder = written(mgo, MPStaticSet)
        Kpoints(
            num_kpts=4,
            style=Kpoints.supported_modes.Reciprocal,
            kpts=[(0.1, 0.2, 0.3), (0.3, 0.1, 0.2), (-0.1, -0.2, -0.3), (1.1, 0.2, -0.7)],
            kpts_weights=[1, 1, 1, 1],
        ).write_file(folder / "KPOINTS")
        energies = spectrum(read_inputs(folder)).energies
        assert np.allclose(energies, energies[:, :1])

    def test_ferromagnet_has_more_electrons_of_one_spin(self, mno, written):
        mno.add_site_property("magmom", [5.0, 5.0, 0.0, 0.0])
        inputs = read_inputs(written(mno, MPStaticSet))
        bands = spectrum(inputs)
        up, down = electrons(inputs, bands)
        assert up - down == pytest.approx(bands.magnetization) == 10
        assert up + down == pytest.approx(inputs.parameters["NELECT"])

    def test_element_is_a_metal(self, written):
        magnesium = Structure(
            Lattice.hexagonal(3.2, 5.2), ["Mg"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
        )
        inputs = read_inputs(written(magnesium, MPStaticSet))
        bands = spectrum(inputs)
        assert electrons(inputs, bands).sum() == pytest.approx(inputs.parameters["NELECT"])
        partly = (bands.occupations > 0.01) & (bands.occupations < 0.99)
        assert partly.any()
