"""Outputs of VASP itself, read by the same code as those of the stand-in.

ASE ships vasprun.xml of two runs of VASP 6.3; the other files that emmet needs are made up here.
"""

from __future__ import annotations

import re
import shutil

import pytest
from atomate2.vasp.jobs.base import get_vasp_task_document
from pymatgen.io.vasp.inputs import Poscar
from pymatgen.io.vasp.outputs import Vasprun

from flows.engines.hybrid import METHOD, gap_of
from flows.engines.vasp import PARSE_NO_BANDS, VaspEnergyMaker
from flows.engines.vasp_outcome import (
    PROGRAM_VARIABLE,
    check_convergence,
    check_finite,
    check_program,
    store_band_edges,
    stored_band_edges,
)
from gan_htvs.core.errors import CalculationError
from tests.helpers import PBE_U, relaxed

ENERGY = r'<i name="(e_\w+)">[^<]*</i>'
OVERFLOW = r'<i name="\1"> **************** </i>'
FERMI_LEVEL = r'<i name="efermi">[^<]*</i>'

MINIMAL_OUTCAR = """\
 a test made this up, since none was recorded with vasprun.xml
 vasp.6.3
 running on    4 total cores
   k-points           NKPTS = {n_kpoints:6d}   number of bands    NBANDS= {n_bands:6d}
   total plane-waves  NPLWV =   1000
 maximum and minimum number of plane-waves per node :     1000     1000
   IBRION =     -1    ionic relax: 0-MD 1-quasi-New 2-CG
   NELECT = {n_electrons:12.4f}    total number of electrons
 E-fermi : {efermi:9.4f}     XC(G=0): -10.0000     alpha+bet : -10.0000
                  Total CPU time used (sec):       10.000
                            User time (sec):       10.000
                          System time (sec):        0.000
                         Elapsed time (sec):       10.000
                   Maximum memory used (kb):           0.
                   Average memory used (kb):           0.
"""


@pytest.fixture(params=["vasprun_pstress.xml", "vasprun_dfpt.xml"])
def recorded(request, recorded_vasp, tmp_path, monkeypatch):
    """Folder with outputs of VASP, which is the working directory, as in a job."""
    shutil.copy(recorded_vasp(request.param), tmp_path / "vasprun.xml")
    vasprun = Vasprun(tmp_path / "vasprun.xml", parse_potcar_file=False)
    Poscar(vasprun.final_structure, comment="made up").write_file(tmp_path / "CONTCAR")
    outcar = MINIMAL_OUTCAR.format(
        n_kpoints=len(vasprun.actual_kpoints),
        n_bands=vasprun.parameters["NBANDS"],
        n_electrons=vasprun.parameters["NELECT"],
        efermi=vasprun.efermi,
    )
    (tmp_path / "OUTCAR").write_text(outcar)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def task(recorded):
    task = get_vasp_task_document(recorded, **PARSE_NO_BANDS)
    store_band_edges(task, recorded)
    return task


@pytest.fixture
def vasprun(recorded):
    return Vasprun(recorded / "vasprun.xml", parse_potcar_file=False)


def test_converged_run_is_accepted(task):
    check_convergence(task)
    check_finite(task)


def test_program_of_vasprun_is_checked(recorded, monkeypatch):
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    check_program(recorded)
    monkeypatch.setenv(PROGRAM_VARIABLE, "vasp-stand-in")
    with pytest.raises(CalculationError, match="'vasp' as its program, not 'vasp-stand-in'"):
        check_program(recorded)


def test_overflowing_energies_are_refused(recorded):
    path = recorded / "vasprun.xml"
    head, last = path.read_text().rsplit("<calculation>", 1)
    path.write_text(f"{head}<calculation>{re.sub(ENERGY, OVERFLOW, last)}")
    with pytest.raises(CalculationError, match="not finite"):
        check_finite(get_vasp_task_document(recorded, **PARSE_NO_BANDS))


@pytest.mark.parametrize("shift", [-0.5, -0.05, 0.5])
def test_gap_does_not_depend_on_fermi_level_of_vasp(recorded, task, vasprun, shift):
    path = recorded / "vasprun.xml"
    written = re.search(FERMI_LEVEL, path.read_text())[0]
    moved = f'<i name="efermi">{vasprun.efermi + shift:16.8f} </i>'
    path.write_text(path.read_text().replace(written, moved))
    shifted = get_vasp_task_document(recorded, **PARSE_NO_BANDS)
    store_band_edges(shifted, recorded)
    assert stored_band_edges(shifted) == stored_band_edges(task)
    assert not stored_band_edges(shifted).is_metal


# The other run continues with a response calculation, to which NELM does not apply.
@pytest.mark.parametrize("recorded", ["vasprun_pstress.xml"], indirect=True)
def test_run_that_used_all_electronic_steps_is_refused(recorded, vasprun):
    n_steps = len(vasprun.ionic_steps[-1]["electronic_steps"])
    path = recorded / "vasprun.xml"
    nelm = f'name="NELM">{vasprun.parameters["NELM"]:6d}<'
    assert nelm in path.read_text()
    path.write_text(path.read_text().replace(nelm, f'name="NELM">{n_steps:6d}<'))
    with pytest.raises(CalculationError, match=f"NELM = {n_steps} electronic steps"):
        check_convergence(get_vasp_task_document(recorded, **PARSE_NO_BANDS))


def test_energy_agrees_with_pymatgen(task, vasprun):
    structure = vasprun.final_structure
    choose = VaspEnergyMaker.choose.original
    chosen = choose(VaspEnergyMaker(), structure, {"NM": [task, task, task]})
    raw = chosen.energy_per_atom - chosen.correction_per_atom
    assert raw == pytest.approx(vasprun.final_energy / len(structure))
    assert chosen.structure.matches(structure)
    assert chosen.volume_change == pytest.approx(0)
    assert chosen.n_steps == 2 * len(vasprun.ionic_steps)
    (order,) = chosen.magnetic_orders
    assert order.order == "NM"
    assert order.pbe_gap == pytest.approx(vasprun.eigenvalue_band_properties[0])


def test_gap_agrees_with_pymatgen(task, vasprun):
    result = gap_of(task, relaxed(vasprun.final_structure, level=PBE_U), "gap")
    gap, cbm, vbm, is_direct = vasprun.eigenvalue_band_properties
    assert result.band_gap == pytest.approx(gap)
    assert (result.vbm, result.cbm) == pytest.approx((vbm, cbm))
    assert (result.is_gap_direct, result.is_metal, result.method) == (is_direct, False, METHOD)
    assert result.cutoff == vasprun.parameters["ENMAX"]
    assert result.vasp_version == vasprun.vasp_version
