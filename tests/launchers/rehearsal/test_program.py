"""Files of the stand-in, parsed with pymatgen, ASE, custodian and atomate2."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from atomate2.vasp.jobs.base import get_vasp_task_document
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp.inputs import Kpoints
from pymatgen.io.vasp.outputs import (
    BSVasprun,
    Chgcar,
    Oszicar,
    Outcar,
    Vasprun,
)
from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.corrections import energy_correction
from launchers.rehearsal.failure_modes import FAIL_VARIABLE
from launchers.rehearsal.labels import NOTICE, PROGRAM
from launchers.rehearsal.program import run

HSE06 = {
    "LHFCALC": True,
    "HFSCREEN": 0.2,
    "AEXX": 0.25,
    "LDAU": False,
    "ISMEAR": 0,
    "ALGO": "Damped",
    "LCHARG": True,
    "LWAVE": True,
}


class TestRelaxation:
    def test_is_parsed_by_pymatgen(self, relaxed):
        vasprun = Vasprun(relaxed / "vasprun.xml", parse_potcar_file=True)
        assert vasprun.converged
        assert vasprun.run_type == "GGA+U"
        assert vasprun.is_hubbard
        assert vasprun.hubbards == {"Mn": 3.9, "O": 0}
        assert [titel.split()[1] for titel in vasprun.potcar_symbols] == ["Mn_pv", "O"]
        assert [spec["titel"] for spec in vasprun.potcar_spec] == vasprun.potcar_symbols
        assert vasprun.is_spin
        assert vasprun.parameters["NELECT"] == 38
        assert vasprun.incar["MAGMOM"] == [5, -5, 0, 0]
        assert vasprun.incar["EDIFF"] == pytest.approx(2e-4)
        assert vasprun.vasp_version.startswith("6")
        assert vasprun.generator["program"].lower() == PROGRAM != "vasp"
        assert vasprun.generator["subversion"].lower() == NOTICE.lower()  # pymatgen changes case
        assert Vasprun(relaxed / "vasprun.xml", parse_potcar_file=False).converged

    def test_all_files_agree(self, relaxed):
        vasprun = Vasprun(relaxed / "vasprun.xml")
        oszicar, outcar = Oszicar(relaxed / "OSZICAR"), Outcar(relaxed / "OUTCAR")
        energies = [step["e_0_energy"] for step in vasprun.ionic_steps]
        assert [step["E0"] for step in oszicar.ionic_steps] == pytest.approx(energies)
        assert [len(step) for step in oszicar.electronic_steps] == [
            len(step["electronic_steps"]) for step in vasprun.ionic_steps
        ]
        assert outcar.final_energy == pytest.approx(vasprun.final_energy)
        assert outcar.efermi == pytest.approx(vasprun.efermi, abs=1e-4)
        assert outcar.nelect == vasprun.parameters["NELECT"]
        assert outcar.data["nbands"] == vasprun.parameters["NBANDS"]
        assert not outcar.is_stopped
        assert outcar.run_stats["cores"] == 1
        assert outcar.run_stats["Elapsed time (sec)"] > 0
        contcar = Structure.from_file(relaxed / "CONTCAR")
        last = vasprun.final_structure
        assert np.allclose(last.lattice.matrix, contcar.lattice.matrix, atol=1e-6)
        assert np.allclose(last.frac_coords, contcar.frac_coords, atol=1e-6)
        assert NOTICE in (relaxed / "OUTCAR").read_text().splitlines()[0]

    def test_keeps_antiferromagnetic_ordering(self, relaxed):
        outcar = Outcar(relaxed / "OUTCAR")
        up, down, *oxygen = (moment["tot"] for moment in outcar.magnetization)
        assert 4 < up < 5
        assert down == pytest.approx(-up, abs=0.01)
        assert oxygen == [0, 0]
        assert outcar.total_mag == 0

    def test_becomes_a_task_document(self, relaxed):
        assert not VasprunXMLValidator().check(str(relaxed))
        assert not VaspFilesValidator().check(str(relaxed))
        task = get_vasp_task_document(relaxed)
        output = task.calcs_reversed[0].output
        assert task.state == "successful"
        assert task.run_type == "GGA+U"
        assert task.input.hubbards == {"Mn": 3.9, "O": 0}
        assert [spec.titel.split()[1] for spec in task.input.potcar_spec] == ["Mn_pv", "O"]
        assert task.structure.site_properties["magmom"][0] > 4
        assert output.cbm - output.vbm == pytest.approx(task.output.bandgap)
        assert not output.is_gap_direct
        assert task.run_stats["overall"].total_time > 0

    def test_takes_exactly_nsw_steps(self, mgo, written):
        folder = written(mgo, NSW=2, EDIFFG=-1e-6)
        assert run(folder) == 0
        vasprun = Vasprun(folder / "vasprun.xml")
        assert len(vasprun.ionic_steps) == 2
        assert not vasprun.converged_ionic
        assert vasprun.converged_electronic

    def test_converges_forces_below_ediffg(self, mgo, written):
        mgo.perturb(0.1, seed=0)
        folder = written(mgo, EDIFFG=-0.02)
        assert run(folder) == 0
        steps = Vasprun(folder / "vasprun.xml").ionic_steps
        forces = [np.linalg.norm(step["forces"], axis=1).max() for step in steps]
        assert forces[0] > 0.02 > forces[-1]
        assert np.abs(steps[-1]["stress"]).max() < np.abs(steps[0]["stress"]).max()

    def test_isif_2_keeps_the_cell(self, mgo, written):
        mgo.translate_sites([0], [0.02, 0, 0])
        folder = written(mgo, ISIF=2)
        assert run(folder) == 0
        vasprun = Vasprun(folder / "vasprun.xml")
        assert vasprun.final_structure.lattice == vasprun.initial_structure.lattice
        assert len(vasprun.ionic_steps) > 1

    def test_stops_on_stopcar(self, mgo, written):
        folder = written(mgo, EDIFFG=-1e-6)
        (folder / "STOPCAR").write_text("LABORT = .TRUE.")
        assert run(folder) == 0
        assert Outcar(folder / "OUTCAR").is_stopped
        assert len(Oszicar(folder / "OSZICAR").ionic_steps) == 1


class TestStatic:
    def test_has_energy_forces_and_stress_of_the_potential(self, mno, written):
        mno.perturb(0.05, seed=0)
        folder = written(mno, MPStaticSet)
        assert run(folder) == 0
        atoms = AseAtomsAdaptor.get_atoms(mno, msonable=False)
        atoms.calc = calculator_of("chgnet")
        # ASE's reader converts VASP's signs and units independently of this package.
        (read,) = ase.io.read(folder / "vasprun.xml", index=":")
        energy = atoms.get_potential_energy()
        # CHGNet's energies contain the MP2020 corrections, and VASP's do not.
        correction = len(mno) * energy_correction(mno, energy / len(mno), "vasp")
        assert correction < -1
        assert read.get_potential_energy() + correction == pytest.approx(energy, abs=1e-5)
        assert np.allclose(read.get_forces(), atoms.get_forces(), atol=1e-4)
        assert np.allclose(read.get_stress(), atoms.get_stress(), atol=1e-5)

    def test_without_spin_has_no_moments(self, mgo, written):
        folder = written(mgo, MPStaticSet, ISPIN=1, MAGMOM=None)
        assert run(folder) == 0
        outcar = Outcar(folder / "OUTCAR")
        assert outcar.magnetization == ()
        assert outcar.total_mag is None
        assert len(Vasprun(folder / "vasprun.xml").eigenvalues) == 1

    def test_does_not_converge_with_few_electronic_steps(self, mgo, written):
        folder = written(mgo, MPStaticSet, NELM=6)
        assert run(folder) == 0
        vasprun = Vasprun(folder / "vasprun.xml")
        assert len(vasprun.ionic_steps[0]["electronic_steps"]) == 6
        assert not vasprun.converged_electronic
        assert get_vasp_task_document(folder).state == "failed"

    def test_has_a_density_of_states_with_the_gap(self, mgo, written):
        folder = written(mgo, MPStaticSet, NEDOS=2001)
        assert run(folder) == 0
        vasprun = Vasprun(folder / "vasprun.xml", parse_dos=True)
        assert not vasprun.dos_has_errors
        step = np.diff(vasprun.tdos.energies[:2])[0]
        gap = vasprun.eigenvalue_band_properties[0]
        assert vasprun.complete_dos.get_gap(tol=1e-3, spin=None) == pytest.approx(gap, abs=2 * step)
        filled = sum(
            np.interp(vasprun.efermi, vasprun.tdos.energies, states)
            for states in vasprun.idos.densities.values()
        )
        assert filled == pytest.approx(vasprun.parameters["NELECT"], abs=0.01)

    def test_writes_placeholders_only_if_requested(self, mgo, written):
        folder = written(mgo, MPStaticSet, LCHARG=True, LWAVE=False)
        assert run(folder) == 0
        assert NOTICE in Chgcar.from_file(folder / "CHGCAR").poscar.comment
        assert not (folder / "WAVECAR").exists()


class TestHybrid:
    def test_has_a_wider_gap_at_the_points_of_weight_zero(self, mgo, written):
        folder = written(mgo, MPStaticSet)
        assert run(folder) == 0
        semilocal = Vasprun(folder / "vasprun.xml")
        band_structure = semilocal.get_band_structure(efermi="smart")
        edges = [band_structure.get_vbm()["kpoint"], band_structure.get_cbm()["kpoint"]]
        written(mgo, MPStaticSet, **HSE06)
        Kpoints(
            num_kpts=3,
            style=Kpoints.supported_modes.Reciprocal,
            kpts=[(0.25, 0.25, 0.25), *(tuple(edge.frac_coords) for edge in edges)],
            kpts_weights=[1, 0, 0],
        ).write_file(folder / "KPOINTS")
        assert run(folder) == 0
        hybrid = BSVasprun(folder / "vasprun.xml", parse_projected_eigen=True)
        assert hybrid.run_type == get_vasp_task_document(folder).run_type == "HSE06"
        gap, cbm, vbm, is_direct = hybrid.eigenvalue_band_properties
        assert gap == pytest.approx(cbm - vbm)
        assert gap > 1.5 * semilocal.eigenvalue_band_properties[0]
        assert not is_direct
        assert hybrid.actual_kpoints_weights == [1, 0, 0]
        assert (folder / "WAVECAR").read_text().startswith(NOTICE)


class TestInvalidInput:
    def test_is_printed_to_standard_output(self, mgo, written, capsys):
        folder = written(mgo, MPRelaxSet)
        (folder / "POTCAR").unlink()
        assert run(folder) == 1
        assert "POTCAR: not found" in capsys.readouterr().out
        assert not (folder / "vasprun.xml").exists()

    def test_includes_unknown_failure_modes(self, mgo, written, capsys, monkeypatch):
        folder = written(mgo)
        monkeypatch.setenv(FAIL_VARIABLE, "explode=0.1")
        assert run(folder) == 1
        assert f"{FAIL_VARIABLE}: 'explode=0.1'" in capsys.readouterr().out
