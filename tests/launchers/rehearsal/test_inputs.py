"""Checks of VASP inputs, and numbers that VASP derives from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar
from pymatgen.io.vasp.sets import MPRelaxSet
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.errors import UserError
from launchers.rehearsal.environment import stand_in
from launchers.rehearsal.inputs import kpoints_of, read_inputs


def change_incar(folder, **tags):
    incar = Incar.from_file(folder / "INCAR")
    Incar(dict(incar) | tags).write_file(folder / "INCAR")


class TestReadInputs:
    def test_bands_and_electrons_agree_with_pymatgen(self, mno, written):
        folder = written(mno)
        inputs = read_inputs(folder)
        with stand_in(folder / "potcars", ["Mn_pv", "O"], "PBE"):
            expected = MPRelaxSet(mno, user_potcar_functional="PBE")
            assert inputs.parameters["NELECT"] == expected.nelect == 2 * (13 + 6)
            assert inputs.parameters["NBANDS"] == expected.estimate_nbands()

    def test_moments_are_in_the_order_of_poscar(self, mno, written):
        inputs = read_inputs(written(mno))
        assert inputs.moments.tolist() == [5, -5, 0, 0]
        assert [site.specie.symbol for site in inputs.structure] == ["Mn", "Mn", "O", "O"]

    def test_defaults_agree_with_vasp(self, mgo, written):
        folder = written(mgo)
        Incar({"NSW": 5, "IBRION": 2, "EDIFF": 1e-5}).write_file(folder / "INCAR")
        inputs = read_inputs(folder)
        defaults = {"NELM": 60, "EDIFFG": pytest.approx(1e-4), "ENMAX": 400, "LHFCALC": False}
        assert {name: inputs.parameters[name] for name in defaults} == defaults
        assert (inputs.n_spins, inputs.moves_cell) == (1, False)
        Incar({}).write_file(folder / "INCAR")
        inputs = read_inputs(folder)
        assert (inputs.parameters["IBRION"], inputs.n_ionic_steps) == (-1, 1)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"MAGMOM": [5.0]}, "MAGMOM"),
            ({"IBRION": 0}, "IBRION = 0"),
            ({"ISIF": 7}, "ISIF = 7"),
            ({"NBANDS": 2}, "NBANDS"),
            ({"ICHARG": 11}, "CHGCAR"),
        ],
    )
    def test_rejects_invalid_tags(self, mgo, written, tags, message):
        folder = written(mgo)
        change_incar(folder, **tags)
        with pytest.raises(UserError, match=message):
            read_inputs(folder)

    def test_rejects_noncollinear_magnetism(self, mgo, written):
        folder = written(mgo)
        Incar({"LNONCOLLINEAR": True}).write_file(folder / "INCAR")
        with pytest.raises(UserError, match="noncollinear"):
            read_inputs(folder)

    def test_rejects_potentials_in_another_order(self, mgo, written):
        folder = written(mgo)
        Poscar(mgo.get_sorted_structure(reverse=True)).write_file(folder / "POSCAR")
        with pytest.raises(UserError, match=r"^POTCAR: .*Mg O.*O Mg"):
            read_inputs(folder)

    @pytest.mark.parametrize("name", ["INCAR", "POSCAR", "POTCAR", "KPOINTS"])
    def test_names_a_missing_file(self, mgo, written, name):
        folder = written(mgo)
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"^{name}: not found"):
            read_inputs(folder)

    def test_names_a_damaged_file(self, mgo, written):
        folder = written(mgo)
        (folder / "POSCAR").write_text("not a structure\n")
        with pytest.raises(UserError, match=r"^POSCAR: "):
            read_inputs(folder)


class TestKPoints:
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        mesh=st.tuples(*[st.integers(1, 6)] * 3),
        style=st.sampled_from([Kpoints.gamma_automatic, Kpoints.monkhorst_automatic]),
    )
    def test_mesh_is_reduced_as_by_pymatgen(self, mgo, mesh, style):
        _, weights = kpoints_of(mgo, np.zeros(2), Incar(), style(mesh))
        is_shifted = style == Kpoints.monkhorst_automatic
        expected = SpacegroupAnalyzer(mgo, 1e-3).get_ir_reciprocal_mesh(
            mesh, [int(is_shifted and n % 2 == 0) for n in mesh]
        )
        total = sum(weight for _, weight in expected)
        expected_weights = sorted(weight / total for _, weight in expected)
        assert sorted(weights) == pytest.approx(expected_weights)

    def test_magnetic_ordering_lowers_the_symmetry(self, mno, written):
        folder = written(mno)
        Kpoints.gamma_automatic((4, 4, 4)).write_file(folder / "KPOINTS")
        antiferromagnetic = len(read_inputs(folder).points)
        change_incar(folder, MAGMOM=[5.0, 5.0, 0.0, 0.0])
        ferromagnetic = len(read_inputs(folder).points)
        assert ferromagnetic <= antiferromagnetic < 4**3

    def test_kspacing_replaces_the_file(self, mgo, written):
        folder = written(mgo)
        (folder / "KPOINTS").unlink()
        spacing = mgo.lattice.reciprocal_lattice.a / 2.5
        change_incar(folder, KSPACING=spacing)
        assert len(read_inputs(folder).points) == 4  # irreducible points of a 3 x 3 x 3 mesh
        change_incar(folder, KSPACING=mgo.lattice.reciprocal_lattice.a / 1.5, KGAMMA=False)
        assert read_inputs(folder).points.min(axis=1).all()  # no point at Gamma

    def test_points_of_weight_zero_are_kept(self, mgo, written):
        folder = written(mgo)
        points = [(0, 0, 0), (0.5, 0, 0), (0.1, 0.2, 0.3)]
        Kpoints(
            num_kpts=3,
            style=Kpoints.supported_modes.Reciprocal,
            kpts=points,
            kpts_weights=[1, 3, 0],
        ).write_file(folder / "KPOINTS")
        kpoints = read_inputs(folder)
        assert kpoints.points.tolist() == [list(point) for point in points]
        assert kpoints.weights.tolist() == [0.25, 0.75, 0]

    def test_lines_are_expanded(self, mgo, written):
        folder = written(mgo)
        Kpoints(
            num_kpts=5,
            style=Kpoints.supported_modes.Line_mode,
            coord_type="Reciprocal",
            kpts=[(0, 0, 0), (0.5, 0, 0.5), (0.5, 0, 0.5), (0.5, 0.25, 0.75)],
            labels=["G", "X", "X", "W"],
        ).write_file(folder / "KPOINTS")
        kpoints = read_inputs(folder)
        assert len(kpoints.points) == len(kpoints.weights) == 10
        assert kpoints.points[2].tolist() == [0.25, 0, 0.25]
