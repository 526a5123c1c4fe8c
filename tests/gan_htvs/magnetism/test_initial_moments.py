from __future__ import annotations

from shutil import which

import numpy as np
import pytest
from pymatgen.analysis.magnetism.analyzer import (
    CollinearMagneticStructureAnalyzer,
    MagneticStructureEnumerator,
)
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.command_line import enumlib_caller
from pymatgen.core import Lattice, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.magnetism.initial_moments import (
    enumerated_starts,
    magnetic_primitive,
    magnetic_starts,
    starting_moments,
)
from gan_htvs.magnetism.magnetic_orderings import (
    MagneticCell,
    OrderingScore,
    magnetic_couplings,
)
from gan_htvs.structures.superlattices import hermite_normal_forms
from gan_htvs.thermodynamics.references import reference_phases
from tests.helpers import rocksalt_cell

MNO = rocksalt_cell("Mn", 4.445)
SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.5), ["Mg", "Mn", "O"], [[0] * 3, [0.625] * 3, [0.3875] * 3]
)
ILMENITE = Structure.from_spacegroup(
    "R-3",
    Lattice.hexagonal(4.945, 13.73),
    ["Mg", "Mn", "O"],
    [[0, 0, 0.36], [0, 0, 0.15], [0.317, 0.023, 0.245]],
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.4, 2.87), ["Mn", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.73), ["Ca", "Mn", "O"], [[0.5] * 3, [0] * 3, [0.5, 0, 0]]
)


def moments(structure: Structure) -> np.ndarray:
    return np.array(structure.site_properties["magmom"])


def afm(structure: Structure, magmoms=None) -> Structure:
    return magnetic_starts(structure, magmoms, orders=("AFM",))["AFM"]


def with_elements_for_signs(structure: Structure) -> Structure:
    """Replace magnetic sites by one element for up and another for down moments."""
    names = {1: "Fe", -1: "Co"}
    signs = np.sign(moments(structure))
    species = [
        names.get(int(s), site.specie.symbol) for s, site in zip(signs, structure, strict=True)
    ]
    return Structure(structure.lattice, species, structure.frac_coords)


def is_same_ordering(one: Structure, other: Structure) -> bool:
    reversed_ = other.copy()
    reversed_.add_site_property("magmom", (-moments(other)).tolist())
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    return any(
        matcher.fit(with_elements_for_signs(one), with_elements_for_signs(structure))
        for structure in (other, reversed_)
    )


class TestStarts:
    def test_magnetic_structure_has_fm_and_afm_starts(self):
        starts = magnetic_starts(MNO)
        assert {name: len(start) for name, start in starts.items()} == {"FM": 2, "AFM": 4}
        assert moments(starts["FM"]).tolist() == [5, 0]

    def test_requested_orderings(self):
        assert [*magnetic_starts(MNO, orders=("FM",))] == ["FM"]
        assert [*magnetic_starts(MNO, orders=("AFM",))] == ["AFM"]

    def test_nonmagnetic_structure_has_one_start(self):
        ((name, start),) = magnetic_starts(rocksalt_cell()).items()
        assert (name, len(start)) == ("NM", 2)
        assert not moments(start).any()

    def test_given_signs_are_an_additional_start(self):
        # (001) planes of alternating spin, which is not the ordering of MnO.
        up = np.isclose(MNO.frac_coords[:4, 2] % 1, 0)
        given = [*np.where(up, 4.5, -4.4), *[0.01] * 4]
        starts = magnetic_starts(MNO, given)
        assert [*starts] == ["given", "FM", "AFM"]
        first, fm, anti = starts.values()
        assert sorted(moments(first)) == pytest.approx([-4.4, 0, 0, 4.5])
        assert moments(fm) == pytest.approx([4.45, 0])
        assert not is_same_ordering(first, anti)

    def test_given_magnitudes_are_kept(self):
        given = [4.3] * 4 + [0.02] * 4
        assert sorted(moments(afm(MNO, given))) == pytest.approx([-4.3, 0, 0, 4.3])

    def test_default_moments_are_parallel(self):
        assert starting_moments(MNO) == [5] * 4 + [0] * 4
        assert starting_moments(MNO, [0.1] * 8) == [5] * 4 + [0] * 4
        with pytest.raises(ValueError, match=r"len\(magmoms\)=1"):
            starting_moments(MNO, [1.0])


class TestPrimitiveCells:
    def test_antiferromagnetic_cell_keeps_its_size(self):
        lattice = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]]) * 4.445
        coords = [[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3]
        mno = Structure(lattice, ["Mn", "Mn", "O", "O"], coords)
        anti = magnetic_primitive(mno, [4.51, -4.49, 0.01, 0.02])
        assert len(anti) == 4
        fm = magnetic_primitive(mno, [4.51, 4.49, 0.01, 0.02])
        assert len(fm) == 2
        assert moments(fm) == pytest.approx([4.5, 0.015])


class TestCouplings:
    def test_couplings_of_rocksalt_are_straight_bridges(self):
        # The two sites have six bridges of 180 degrees; those of 90 degrees do not couple.
        cell = afm(MNO)
        first, second = np.flatnonzero(moments(cell))
        couplings = magnetic_couplings(cell, [first, second])
        direct = 0.1 * (3 / (4.445 / np.sqrt(2))) ** 10
        assert couplings[0, 1] == pytest.approx(6 + 6 * direct, rel=0.01)
        assert couplings[0, 0] == pytest.approx(6 * direct, rel=0.01)
        assert np.allclose(couplings, couplings.T)

    def test_edge_sharing_cations_couple_weakly(self):
        cell = magnetic_starts(ILMENITE)["FM"]
        couplings = magnetic_couplings(cell, np.flatnonzero(moments(cell)))
        assert 0 < couplings[0, 1] < 1


class TestAntiferromagnets:
    def test_mno_is_afm_type_two(self):
        # AFM-II, by neutron diffraction: Shull, Strauser and Wollan, Phys. Rev. 83, 333 (1951).
        cell = afm(MNO)
        assert cell.composition.formula == "Mn2 O2"
        for site in cell:
            if site.specie.symbol == "O":
                continue
            signs = {
                shell: [
                    np.sign(n.properties["magmom"] * site.properties["magmom"])
                    for n in cell.get_sites_in_sphere(site.coords, shell + 0.1)
                    if n.specie.symbol == "Mn" and abs(n.nn_distance - shell) < 0.1
                ]
                for shell in (4.445 / np.sqrt(2), 4.445)
            }
            near, far = signs.values()
            assert (len(near), sum(near)) == (12, 0)
            assert (len(far), sum(far)) == (6, -6)

    def test_cubic_perovskite_is_afm_type_g(self):
        # CaMnO3: Wollan and Koehler, Phys. Rev. 100, 545 (1955).
        cell = afm(PEROVSKITE)
        assert len(cell) == 10
        for site in cell:
            if site.specie.symbol == "Mn":
                neighbors = [n for n in cell.get_neighbors(site, 3.8) if n.specie.symbol == "Mn"]
                assert len(neighbors) == 6
                assert all(n.properties["magmom"] == -site.properties["magmom"] for n in neighbors)

    @pytest.mark.parametrize(
        ("structure", "n_atoms", "n_magnetic"),
        [(SPINEL, 14, 4), (ILMENITE, 10, 2), (RUTILE, 6, 2)],
        ids=["spinel", "ilmenite", "rutile"],
    )
    def test_even_number_of_moments_is_compensated_in_the_primitive_cell(
        self, structure, n_atoms, n_magnetic
    ):
        cell = afm(structure)
        assert len(cell) == n_atoms
        assert np.count_nonzero(moments(cell)) == n_magnetic
        assert moments(cell).sum() == 0

    def test_unequal_moments_are_compensated(self):
        # Hausmannite: Mn2+ on tetrahedral and Mn3+ on octahedral sites, 5 + 5 - 4 - 4 + 4 - 4.
        mn3o4 = SPINEL.replace_species({"Mg": "Mn"}, in_place=False)
        given = [5.0] * 8 + [4.0] * 16 + [0.0] * 32
        assert moments(afm(mn3o4, given)).sum() == pytest.approx(0)

    @pytest.mark.parametrize(
        "structure", [MNO, SPINEL, ILMENITE], ids=["MnO", "spinel", "ilmenite"]
    )
    def test_ordering_does_not_depend_on_site_order_origin_or_cell(self, structure):
        expected = afm(structure)
        assert np.array_equal(moments(expected), moments(afm(structure)))
        rows = np.random.default_rng(0).permutation(len(structure))
        shuffled = Structure.from_sites([structure[i] for i in rows])
        moved = structure.copy()
        moved.translate_sites(range(len(moved)), [0.13, 0.29, 0.41])
        supercell = structure.make_supercell([1, 1, 2], in_place=False)
        for variant in (shuffled, moved, supercell):
            assert is_same_ordering(expected, afm(variant))

    def test_search_agrees_with_enumeration(self):
        rng = np.random.default_rng(0)
        for _ in range(10):
            couplings = rng.random((12, 12))
            score = OrderingScore(couplings + couplings.T, np.full(12, 5.0))
            assert score(score.search()).min() == pytest.approx(score(score.all_signs()).min())

    def test_large_cell_is_compensated(self):
        cell = SPINEL.copy()
        rng = np.random.default_rng(0)
        for i in range(len(cell)):
            cell.translate_sites([i], rng.normal(scale=0.05, size=3), frac_coords=False)
        anti = afm(cell)
        assert np.count_nonzero(moments(anti)) == 16
        assert moments(anti).sum() == 0


def afm_cells(structure: Structure, magmoms=None, *, max_afm: int) -> list[Structure]:
    return [*magnetic_starts(structure, magmoms, orders=("AFM",), max_afm=max_afm).values()]


HAUSMANNITE = next(
    phase.structure for phase in reference_phases(["Mn", "O"]) if phase.name == "Mn3O4 hausmannite"
)


class TestFurtherOrderings:
    def test_names_and_first_ordering(self):
        starts = magnetic_starts(RUTILE, max_afm=3)
        assert [*starts] == ["FM", "AFM", "AFM-2", "AFM-3"]
        assert np.array_equal(moments(starts["AFM"]), moments(afm(RUTILE)))

    def test_no_antiferromagnetic_ordering(self):
        assert [*magnetic_starts(MNO, max_afm=0)] == ["FM"]
        with pytest.raises(ValueError, match="max_afm=0"):
            magnetic_starts(MNO, orders=("AFM",), max_afm=0)

    def test_fcc_moments_have_two_orderings_in_a_doubled_cell(self):
        # Alternating planes (111) and (001): types II and I.
        second, first = afm_cells(MNO, max_afm=10)
        planes = np.where(np.isclose(MNO.frac_coords[:4, 2] % 1, 0), 5, -5)
        given = magnetic_starts(MNO, [*planes, *[0] * 4])["given"]
        assert is_same_ordering(first, given)
        assert not is_same_ordering(second, given)

    def test_cubic_perovskite_has_types_g_c_and_a(self):
        n_antiparallel = []
        for cell in afm_cells(PEROVSKITE, max_afm=10):
            center = next(site for site in cell if site.specie.symbol == "Mn")
            near = [n for n in cell.get_neighbors(center, 3.8) if n.specie.symbol == "Mn"]
            n_antiparallel.append(
                sum(n.properties["magmom"] != center.properties["magmom"] for n in near)
            )
        assert n_antiparallel == [6, 4, 2]

    @pytest.mark.parametrize("structure", [MNO, RUTILE, PEROVSKITE], ids=["MnO", "MnO2", "ABO3"])
    def test_number_of_orderings_agrees_with_pymatgen(self, structure):
        fm = magnetic_starts(structure, orders=("FM",))["FM"]
        all_cells = []
        for hnf in [np.eye(3, dtype=int), *hermite_normal_forms(2)]:
            cell = MagneticCell(fm, hnf)
            for signs in cell.score.orderings():
                values = np.zeros(len(cell.structure))
                values[cell.magnetic] = 5 * signs
                all_cells.append(magnetic_primitive(cell.structure, values.tolist()))
        distinct: list[Structure] = []
        for ordering in all_cells:
            analyzer = CollinearMagneticStructureAnalyzer(ordering, overwrite_magmom_mode="none")
            if not any(
                len(ordering) == len(known) and analyzer.matches_ordering(known)
                for known in distinct
            ):
                distinct.append(ordering)
        assert len(afm_cells(structure, max_afm=1000)) == len(distinct) - 1

    def test_second_ordering_of_hausmannite_is_ferrimagnetic(self):
        # Both octahedral sublattices against the tetrahedral one: Jensen and Nielsen, J. Phys. C
        # 7, 409 (1974), above the temperature at which the cell doubles.
        first, second = afm_cells(HAUSMANNITE, max_afm=2)
        assert moments(first).sum() == 0
        assert len(second) == 14
        signs = {
            (len(second.get_neighbors(site, 2.4)), np.sign(site.properties["magmom"]))
            for site in second
            if site.specie.symbol == "Mn"
        }
        assert signs in ({(4, 1), (6, -1)}, {(4, -1), (6, 1)})

    def test_orderings_do_not_depend_on_site_order_origin_or_cell(self):
        # The sequence of further orderings of equal energy, moment, size and symmetry may differ.
        expected = afm_cells(HAUSMANNITE, max_afm=2)
        variant = HAUSMANNITE.make_supercell([1, 2, 1], in_place=False)
        variant.translate_sites(range(len(variant)), [0.13, 0.29, 0.41])
        rows = np.random.default_rng(1).permutation(len(variant))
        variant = Structure.from_sites([variant[i] for i in rows])
        for one, other in zip(expected, afm_cells(variant, max_afm=2), strict=True):
            assert is_same_ordering(one, other)

    def test_large_cells_have_further_orderings(self):
        cell = SPINEL.copy()
        rng = np.random.default_rng(0)
        for i in range(len(cell)):
            cell.translate_sites([i], rng.normal(scale=0.05, size=3), frac_coords=False)
        (first, *rest) = afm_cells(cell, max_afm=4)
        assert moments(first).sum() == 0
        assert len(rest) == 3

    def test_local_minima_include_the_lowest_energy(self):
        rng = np.random.default_rng(0)
        for _ in range(10):
            couplings = rng.random((12, 12))
            score = OrderingScore(couplings + couplings.T, np.full(12, 5.0))
            lowest = score.energies(score.all_signs()).min()
            assert score.energies(score.local_minima()).min() == pytest.approx(lowest)


class TestEnumlib:
    def test_missing_enumlib_is_a_user_error(self, monkeypatch):
        monkeypatch.setattr(enumlib_caller, "ENUM_CMD", None)
        with pytest.raises(UserError, match=r"enum\.x"):
            enumerated_starts(MNO, max_afm=2)

    def test_enumlib_is_not_needed_for_one_ordering(self, monkeypatch):
        monkeypatch.setattr(enumlib_caller, "ENUM_CMD", None)
        assert [*enumerated_starts(MNO, max_afm=0)] == ["FM"]
        assert [*enumerated_starts(rocksalt_cell(), max_afm=2)] == ["NM"]

    def test_orderings_of_pymatgen_become_starts(self, monkeypatch):
        # Without the transformations, which run enumlib, only flips of whole sublattices remain.
        generate = MagneticStructureEnumerator._generate_transformations
        monkeypatch.setattr(
            MagneticStructureEnumerator,
            "_generate_transformations",
            lambda self, structure: generate(self, structure) and {},
        )
        monkeypatch.setattr(enumlib_caller, "ENUM_CMD", "enum.x")
        monkeypatch.setattr(enumlib_caller, "MAKESTR_CMD", "makestr.x")
        starts = enumerated_starts(HAUSMANNITE, max_afm=3)
        assert [*starts] == ["FM", "AFM"]
        assert is_same_ordering(starts["AFM"], afm_cells(HAUSMANNITE, max_afm=2)[1])

    @pytest.mark.skipif(which("enum.x") is None, reason="enumlib is not installed")
    def test_enumlib_finds_both_orderings_of_rocksalt(self):
        (name, _), *rest = enumerated_starts(MNO, max_afm=10).items()
        assert name == "FM"
        for expected in afm_cells(MNO, max_afm=2):
            assert any(is_same_ordering(expected, start) for _, start in rest)
