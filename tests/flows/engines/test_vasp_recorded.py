"""What VASP itself wrote, read by the code that reads the stand-in's files.

ASE ships vasprun.xml of two runs of VASP 6.3; what else emmet wants to see is made up here.
"""

from __future__ import annotations

import shutil

import pytest
from atomate2.vasp.jobs.base import get_vasp_task_document
from pymatgen.io.vasp.inputs import Poscar
from pymatgen.io.vasp.outputs import Vasprun

from flows.engines.hybrid import METHOD, gap_of
from flows.engines.vasp import PARSE_NO_BANDS, VaspEngine
from flows.engines.vasp_outcome import check_convergence
from gan_htvs.candidate import Relaxed
from gan_htvs.engines import EngineSettings
from gan_htvs.errors import CalculationError

SETTINGS = EngineSettings.model_validate({"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}})

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
    """A folder with what VASP wrote; the working directory, as in a job."""
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
    return get_vasp_task_document(recorded, **PARSE_NO_BANDS)


@pytest.fixture
def vasprun(recorded):
    return Vasprun(recorded / "vasprun.xml", parse_potcar_file=False)


def test_a_run_that_converged_is_accepted(task):
    check_convergence(task)


# The other run goes on with the steps of a response, of which NELM says nothing.
@pytest.mark.parametrize("recorded", ["vasprun_pstress.xml"], indirect=True)
def test_one_that_used_all_electronic_steps_is_not(recorded, vasprun):
    n_steps = len(vasprun.ionic_steps[-1]["electronic_steps"])
    path = recorded / "vasprun.xml"
    nelm = f'name="NELM">{vasprun.parameters["NELM"]:6d}<'
    assert nelm in path.read_text()
    path.write_text(path.read_text().replace(nelm, f'name="NELM">{n_steps:6d}<'))
    with pytest.raises(CalculationError, match=f"NELM = {n_steps} electronic steps"):
        check_convergence(get_vasp_task_document(recorded, **PARSE_NO_BANDS))


def test_energy_is_that_of_pymatgen(task, vasprun):
    structure = vasprun.final_structure
    relaxed = VaspEngine(SETTINGS).summarise(
        structure, {"NM relax 1": task, "NM relax 2": task, "NM static": task}
    )
    raw = relaxed.energy_per_atom - relaxed.correction_per_atom
    assert raw == pytest.approx(vasprun.final_energy / len(structure))
    assert relaxed.structure.matches(structure)
    assert relaxed.volume_change == pytest.approx(0)
    assert relaxed.n_steps == 2 * len(vasprun.ionic_steps)
    (order,) = relaxed.magnetic_orders
    assert (order.order, order.pbe_gap) == ("NM", task.output.bandgap)


def test_gap_is_that_of_pymatgen(task, vasprun):
    relaxed = Relaxed(
        structure=vasprun.final_structure,
        energy_per_atom=vasprun.final_energy / len(vasprun.final_structure),
        level_of_theory="PBE(+U)+MP2020",
        converged=True,
    )
    found = gap_of(task, relaxed, SETTINGS)
    gap, cbm, vbm, is_direct = vasprun.eigenvalue_band_properties
    assert found.band_gap == pytest.approx(gap)
    assert (found.vbm, found.cbm) == pytest.approx((vbm, cbm))
    assert (found.is_gap_direct, found.is_metal, found.method) == (is_direct, False, METHOD)
    assert found.cutoff == vasprun.parameters["ENMAX"]
    assert found.vasp_version == vasprun.vasp_version
