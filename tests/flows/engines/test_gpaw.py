from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from flows.engines import gpaw
from flows.engines.gpaw import (
    GapTask,
    availability,
    compute_gap,
    kpoint_mesh,
    magnetic_primitive,
    starting_moments,
)
from gan_htvs.bandgap import (
    HSE06_ON_PBE,
    BandEdges,
    BandGapResult,
    fill_bands,
    magnetic_order,
    unsettled_bands,
)
from gan_htvs.campaign import BandGapEngineSettings

OBSTACLE = availability()
needs_gpaw = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


def rocksalt(metal: str, a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture
def mgo() -> Structure:
    return rocksalt("Mg", 4.212)


@pytest.fixture
def mno_afm() -> Structure:
    """MnO with (111) planes of alternating spin: 4 atoms."""
    lattice = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]]) * 4.445
    return Structure(lattice, ["Mn", "Mn", "O", "O"], [[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3])


class TestFillBands:
    def test_an_insulator_with_an_indirect_gap(self):
        spectrum = [[[-1.0, 0.0, 5.0], [-2.0, -0.5, 3.0]]]
        edges = fill_bands(spectrum, [1, 3], 4)
        assert edges == BandEdges(vbm=0.0, cbm=3.0, is_metal=False, is_direct=False)
        assert edges.gap == 3.0

    def test_a_direct_gap(self):
        edges = fill_bands([[[0.0, 2.0], [-1.0, 3.0]]], [0.5, 0.5], 2)
        assert edges.is_direct
        assert edges.gap == 2.0

    def test_overlapping_bands_are_a_metal_despite_a_level_spacing(self):
        # The second band at k=0 lies below the first at k=1: filled counts are 2 and 0.
        edges = fill_bands([[[0.0, 1.0], [2.0, 3.0]]], [1, 1], 2)
        assert edges.is_metal
        assert edges.gap == 0
        assert edges.is_direct is None

    def test_an_odd_electron_is_a_metal_without_spin_and_not_with_it(self):
        assert fill_bands([[[0.0, 1.0]]], [1], 1).is_metal
        polarised = fill_bands([[[0.0, 1.0]], [[2.0, 3.0]]], [1], 1)
        assert not polarised.is_metal
        assert polarised.gap == 1.0

    def test_a_half_filled_degenerate_level_is_a_metal(self):
        assert fill_bands([[[0.0, 0.0, 4.0]]], [1], 2).is_metal

    def test_both_spins_share_one_fermi_level(self):
        # Half-metal: spin up is gapped, spin down is cut by the Fermi level.
        up = [[-1.0, 4.0], [-1.0, 4.0]]
        down = [[0.0, 1.0], [2.0, 3.0]]
        assert fill_bands([up, down], [1, 1], 2).is_metal

    def test_a_pbe_metal_can_fill_as_an_insulator(self):
        pbe = [[[0.0, 1.0], [1.5, 3.0]]]
        hybrid = [[[0.0, 3.0], [1.5, 5.0]]]
        assert fill_bands(pbe, [1, 1], 2).is_metal
        assert fill_bands(hybrid, [1, 1], 2).gap == 1.5

    def test_weights_decide_the_filling(self):
        # Both bands of the first k point hold half an electron each; equal weights would give
        # them one each and leave the second k point empty.
        spectrum = [[[0.0, 1.0], [2.0, 5.0]]]
        assert fill_bands(spectrum, [1, 3], 2).vbm == 2.0
        assert fill_bands(spectrum, [1, 1], 2).vbm == 1.0

    @pytest.mark.parametrize(
        ("spectrum", "electrons"),
        [
            ([[[-np.inf, 0.0, np.inf]]], 2),
            ([[[-np.inf, 0.0, np.inf]]], 4),
            ([[[0.0, 1.0]]], 4),
            ([[[0.0, 1.0]]], 0),
        ],
    )
    def test_a_fermi_level_outside_the_known_bands_is_no_answer(self, spectrum, electrons):
        assert fill_bands(spectrum, [1], electrons) is None


class TestUnsettledBands:
    start = np.array([[[-9.0, -0.9, 0.0, 2.0, 2.5, 9.0]]])

    def test_near_bands_are_wanted_and_far_ones_are_not(self):
        shifted = np.array([[[-np.inf, -np.inf, -0.5, 3.0, np.inf, np.inf]]])
        edges = fill_bands(shifted, [1], 6)
        wanted = unsettled_bands(self.start, shifted, edges)
        assert wanted.tolist() == [[[False, True, False, False, True, False]]]

    def test_nothing_is_wanted_twice(self):
        shifted = np.array([[[-np.inf, -1.5, -0.5, 3.0, 3.5, np.inf]]])
        edges = fill_bands(shifted, [1], 6)
        assert not unsettled_bands(self.start, shifted, edges).any()


class TestPreparation:
    def test_a_conventional_cell_is_reduced(self, mgo):
        task = GapTask.prepare(mgo, BandGapEngineSettings())
        assert len(task.structure) == 2
        assert task.kpoints == (4, 4, 4)
        assert not task.spin_polarized
        assert task.setups() == {"Mg": "2"}

    def test_an_antiferromagnetic_cell_keeps_its_size(self, mno_afm):
        settings = BandGapEngineSettings()
        afm = GapTask.prepare(mno_afm, settings, magmoms=[4.51, -4.49, 0.01, 0.02])
        assert len(afm.structure) == 4
        assert sorted(afm.structure.site_properties["magmom"]) == [-4.49, 0, 0, 4.51]
        fm = GapTask.prepare(mno_afm, settings, magmoms=[4.51, 4.49, 0.01, 0.02])
        assert len(fm.structure) == 2
        assert fm.structure.site_properties["magmom"] == pytest.approx([4.5, 0])

    def test_3d_elements_start_ferromagnetic_without_moments(self, mno_afm):
        assert starting_moments(mno_afm) == [5, 5, 0, 0]
        assert starting_moments(mno_afm, [0.0, 0.1, 0, 0]) == [5, 5, 0, 0]
        with pytest.raises(ValueError, match=r"len\(magmoms\)=1"):
            starting_moments(mno_afm, [1.0])

    def test_u_needs_oxygen_and_the_element(self, mno_afm):
        settings = BandGapEngineSettings(hubbard_u={"Mn": 3.9, "V": 3.25})
        assert GapTask.prepare(mno_afm, settings).hubbard_u == {"Mn": 3.9}
        assert GapTask.prepare(mno_afm, settings).setups() == {"Mn": "7:d,3.9"}
        sulphide = mno_afm.replace_species({"O": "S"}, in_place=False)
        assert GapTask.prepare(sulphide, settings).hubbard_u == {}

    def test_the_mesh_keeps_the_symmetry_of_a_lattice_with_mixed_axes(self):
        orthorhombic = Structure.from_spacegroup(
            "Fmmm", Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]]
        )
        primitive = magnetic_primitive(orthorhombic, starting_moments(orthorhombic))
        assert len(primitive) == 1
        assert len(set(kpoint_mesh(primitive, 10))) == 1
        box = Structure(Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]])
        assert kpoint_mesh(box, 10) == (4, 2, 1)


@pytest.mark.parametrize(
    ("moments", "total", "order"),
    [
        ([0.0, 0.01], 0.0, "NM"),
        ([3.1, 3.0, -0.1], 6.0, "FM"),
        ([4.4, -4.4, 0.0, 0.0], 0.0, "AFM"),
        ([4.4, -2.9], 1.5, "FiM"),
    ],
)
def test_magnetic_order_is_named(moments, total, order):
    assert magnetic_order(moments, total=total) == order


def test_a_result_has_a_gap_or_a_reason():
    assert BandGapResult.not_computed("no engine").band_gap is None
    with pytest.raises(ValueError, match="either a band_gap or a reason"):
        BandGapResult()
    with pytest.raises(ValueError, match="either a band_gap or a reason"):
        BandGapResult(band_gap=1.0, reason="contradiction")


def test_switched_off(mgo, tmp_path):
    result = compute_gap(mgo, BandGapEngineSettings(name="none"), workdir=tmp_path)
    assert "engines.band_gap.name" in result.reason


def test_an_absent_or_old_gpaw_says_how_to_cure_it(mgo, tmp_path, monkeypatch):
    monkeypatch.setattr(gpaw, "find_spec", lambda _: None)
    result = compute_gap(mgo, BandGapEngineSettings(), workdir=tmp_path)
    assert "pip install 'gan-htvs[gpaw]'" in result.reason
    monkeypatch.setattr(gpaw, "find_spec", lambda _: object())
    monkeypatch.setattr(gpaw, "version", lambda _: "22.8.0")
    assert "22.8.0" in availability()


@needs_gpaw
def test_a_cell_that_is_too_large_is_not_computed(mgo, tmp_path):
    result = compute_gap(mgo, BandGapEngineSettings(max_atoms=1), workdir=tmp_path)
    assert "max_atoms: 1" in result.reason


@needs_gpaw
def test_mgo_has_the_gap_of_the_reference(mgo, tmp_path):
    result = compute_gap(mgo, BandGapEngineSettings(cutoff=400), workdir=tmp_path)
    assert result.reason is None
    assert result.band_gap == pytest.approx(6.26, abs=0.2)
    assert result.is_gap_direct
    assert result.method == HSE06_ON_PBE
    assert (result.kpoints, result.nsites, result.magnetic_order) == ((4, 4, 4), 2, "NM")
    assert result.pbe_gap == pytest.approx(4.5, abs=0.1)


@needs_gpaw
def test_an_element_without_a_setup_is_a_reason(tmp_path):
    polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
    result = compute_gap(polonium, BandGapEngineSettings(), workdir=tmp_path)
    assert result.band_gap is None
    assert result.reason.startswith("GPAW failed: ")
    assert "PAW dataset" in result.reason
    assert "Po" in result.reason


def scripts_using(folder: Path) -> list[int]:
    """Process ids of the scripts that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "_gpaw_gap" in command and str(folder) in command:
            found.append(int(entry.parent.name))
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


@needs_gpaw
@needs_proc
def test_a_time_out_is_a_reason_and_leaves_no_process(mno_afm, tmp_path):
    settings = BandGapEngineSettings(max_seconds=1)
    result = compute_gap(mno_afm, settings, magmoms=[5, -5, 0, 0], workdir=tmp_path)
    assert result.band_gap is None
    assert "max_seconds: 1" in result.reason
    assert scripts_using(tmp_path) == []


@needs_gpaw
@needs_proc
def test_a_killed_parent_takes_the_calculation_along(tmp_path):
    program = (
        "from pymatgen.core import Lattice, Structure\n"
        "from flows.engines.gpaw import compute_gap\n"
        "from gan_htvs.campaign import BandGapEngineSettings\n"
        "s = Structure(Lattice.cubic(4.4), ['Mn', 'O'], [[0, 0, 0], [.5, .5, .5]])\n"
        f"compute_gap(s, BandGapEngineSettings(kpoint_length=40), workdir={str(tmp_path)!r})\n"
    )
    root = str(Path(gpaw.__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        wait_until(lambda: list(tmp_path.glob("gap-*/gpaw-1.txt")))
        assert scripts_using(tmp_path)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not scripts_using(tmp_path))


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
