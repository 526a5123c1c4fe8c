"""Gaps of hybrid calculations come from counted electrons, not from VASP's Fermi level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from atomate2.utils.path import strip_hostname
from atomate2.vasp.jobs.mp import MPGGAStaticMaker
from jobflow import Flow, run_locally
from monty.os.path import zpath
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints

from flows.band_gap import GpawBandGapMaker
from flows.energy import PotentialEnergyMaker
from flows.engines.hybrid import UNCERTAINTY, VaspBandGapMaker
from flows.engines.vasp_step import VaspStepMaker, customized
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from launchers.rehearsal.spectrum import synthetic_gap
from tests.helpers import PBE_U, memory_store, relaxed, rocksalt

EDGE_SHIFT = 0.10
"""Shift of the valence band at points of weight zero, eV."""


class Vasprun:
    """Editable vasprun.xml."""

    def __init__(self, path):
        self.path = path
        self.tree = ET.parse(path)

    @property
    def is_hybrid(self):
        return self.tree.find("incar/*[@name='LHFCALC']") is not None

    @property
    def weights(self):
        return np.array([float(v.text) for v in self.tree.find("kpoints/varray[@name='weights']")])

    def spins(self):
        """Return the rows (eV, occupation) of each spin and k point."""
        sets = self.tree.find("calculation/eigenvalues/array/set")
        return [[point.findall("r") for point in spin] for spin in sets]

    def levels(self):
        return np.array(
            [
                [[[float(word) for word in row.text.split()] for row in point] for point in spin]
                for spin in self.spins()
            ]
        )

    def move_fermi_level(self, energy):
        self.tree.find("calculation/dos/i[@name='efermi']").text = f"{energy:.4f}"

    def write(self):
        self.tree.write(self.path, encoding="ISO-8859-1", xml_declaration=True)


def lower_fermi_level(vasprun):
    """Set the Fermi level of EFERMI = LEGACY: just above the filled bands at weighted points."""
    levels = vasprun.levels()
    weighted = levels[:, vasprun.weights > 0]
    top = weighted[..., 0][weighted[..., 1] > 0.5].max()
    for spin in vasprun.spins():
        for k in np.flatnonzero(vasprun.weights == 0):
            filled = [row for row in spin[k] if float(row.text.split()[1]) > 0.5]
            energy = float(filled[-1].text.split()[0]) + EDGE_SHIFT
            filled[-1].text = f"{energy:.4f} 0.0000"
    vasprun.move_fermi_level(top + EDGE_SHIFT / 2)


def move_fermi_level_into_valence_band(vasprun):
    levels = vasprun.levels()
    vasprun.move_fermi_level(levels[..., 0][levels[..., 1] > 0.5].max() - 0.01)


@pytest.fixture
def gap(tmp_path, monkeypatch, stand_in, in_process):
    """Return a function that computes a hybrid gap; it returns the gap and the folder."""

    def compute(structure, change_static=None, change_hybrid=None, mode="gap"):
        class Changed(in_process):
            def run(self, directory="./"):
                super().run(directory)
                vasprun = Vasprun(Path(directory) / "vasprun.xml")
                if change := change_hybrid if vasprun.is_hybrid else change_static:
                    change(vasprun)
                    vasprun.write()

        monkeypatch.setattr("atomate2.vasp.run.VaspJob", Changed)
        settings = EngineSettings.model_validate(
            {
                "energy": {"name": "vasp"},
                "band_gap": {"name": "vasp"},
                "vasp": {"hybrid": {"mode": mode, "reciprocal_density": 20}},
            }
        )
        maker = customized(MPGGAStaticMaker(name="static"), settings.vasp, {})
        static = replace(VaspStepMaker.of(settings.vasp), vasp=maker).make(structure)
        task = run(static)[static.uuid]
        start = relaxed(
            task.structure,
            task.output.energy_per_atom,
            PBE_U,
            magmoms=task.structure.site_properties["magmom"],
            folder=task.dir_name,
        )
        hybrid, read = jobs = VaspBandGapMaker.of(settings).make(start).jobs
        for job in jobs:
            job.hosts.clear()
        outputs = run(hybrid, read)
        return outputs[read.uuid], Path(strip_hostname(outputs[hybrid.uuid].dir_name))

    def run(*jobs):
        store = memory_store()
        flow = Flow(list(jobs))
        run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
        return {job.uuid: decode(store.get_output(job.uuid, load=True)) for job in jobs}

    return compute


def weights_in(folder):
    kpoints = Kpoints.from_file(zpath(str(folder / "KPOINTS")))
    return list(kpoints.kpts_weights or ())


@pytest.mark.parametrize("metal", ["Mg", "Mn"])  # without and with moments
def test_insulator_with_low_fermi_level_is_no_metal(gap, metal):
    structure = rocksalt(metal, 4.3)
    result, folder = gap(structure, change_hybrid=lower_fermi_level)
    assert 0 in weights_in(folder)
    assert result.reason is None
    expected = synthetic_gap(structure.composition, is_hybrid=True) - EDGE_SHIFT
    assert (result.is_metal, result.band_gap) == (False, pytest.approx(expected, abs=0.02))
    assert result.uncertainty == UNCERTAINTY["gap"]


def test_fermi_level_in_valence_band_changes_neither_points_nor_gap(gap):
    structure, change = rocksalt("Mg", 4.3), move_fermi_level_into_valence_band
    result, folder = gap(structure, change_static=change, change_hybrid=change)
    assert weights_in(folder).count(0) == 2
    expected = synthetic_gap(structure.composition, is_hybrid=True)
    assert result.band_gap == pytest.approx(expected, abs=0.01)


def test_gap_without_fermi_level(gap):
    structure = rocksalt("Mg", 4.3)

    def without_fermi_level(vasprun):
        dos = vasprun.tree.find("calculation/dos")
        dos.remove(dos.find("i[@name='efermi']"))

    result, _ = gap(structure, change_hybrid=without_fermi_level)
    expected = synthetic_gap(structure.composition, is_hybrid=True)
    assert result.band_gap == pytest.approx(expected, abs=0.01)


def test_metal_has_no_gap_and_no_edge_points(gap):
    result, folder = gap(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.5), ["Mg"], [[0, 0, 0]])
    )
    assert (result.is_metal, result.band_gap, result.is_gap_direct) == (True, 0.0, None)
    assert 0 not in weights_in(folder)
    assert result.uncertainty == UNCERTAINTY["static"]


def test_incar_requests_fermi_level_at_midgap(gap):
    _, folder = gap(rocksalt("Mg", 4.3), mode="static")
    assert Incar.from_file(zpath(str(folder / "INCAR")))["EFERMI"].upper() == "MIDGAP"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [(PotentialSettings(), "2 atoms exceed"), (PotentialSettings(max_steps=1, fmax=1e-6), "relax")],
)
def test_band_gap_of_the_output_of_an_energy_job(settings, reason):
    relax_job = PotentialEnergyMaker(potential=settings).make(rocksalt(length=4.6))
    gap_job = VaspBandGapMaker(max_atoms=1).make(relax_job.output)
    outputs = run_locally(Flow([relax_job, gap_job]), store=memory_store(), log=False)
    (result,) = (
        max(indices.items())[1].output
        for uuid, indices in outputs.items()
        if uuid != relax_job.uuid and isinstance(max(indices.items())[1].output, BandGapResult)
    )
    assert result.band_gap is None
    assert reason in result.reason


def test_gap_job_accepts_the_output_of_an_energy_job():
    relax_job = PotentialEnergyMaker().make(rocksalt())
    gap_job = GpawBandGapMaker().make(relax_job.output)
    assert gap_job.input_uuids == (relax_job.uuid,)
