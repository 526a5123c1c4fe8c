"""Output files besides vasprun.xml, in the format that pymatgen, custodian and emmet read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.io.vasp.inputs import Poscar

from launchers.rehearsal.labels import NOTICE, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymatgen.core import Structure

    from launchers.rehearsal.calculation import IonicStep
    from launchers.rehearsal.inputs import Inputs
    from launchers.rehearsal.spectrum import Spectrum

CONVERGED = "reached required accuracy - stopping structural energy minimisation"
"""Message of VASP when ions are converged."""

MOMENTS_FROM = 10
"""Smallest LORBIT with which moments of atoms are written without RWIGS."""

POINTS_PER_WAVE = 8
"""Approximate number of points of the FFT grid for each plane wave."""

WAVEVECTOR_SQUARED_PER_EV = 0.262468
"""2 m / hbar^2, in 1/(eV A^2)."""

HEADER = (
    "       N       E                     dE             d eps       ncg     rms          rms(c)"
)

GREETING = f"""\
 running on    1 total cores
 distrk:  each k-point on    1 cores,    1 groups
 distr:  one band on    1 cores,    1 groups
 vasp.{VERSION} rehearsal complex
 POSCAR found :{{n_types:3d}} types and{{n_atoms:8d}} ions
 entering main loop
{HEADER}"""
"""Standard output after the notice."""


def n_plane_waves(volume: float, encut: float) -> int:
    """Count the plane waves below a cutoff: V k^3 / (6 pi^2), with hbar^2 k^2 / 2m = ENCUT.

    Parameters
    ----------
    volume
        Volume of the cell, A^3.
    encut
        Cutoff, eV.
    """
    return round(volume * (WAVEVECTOR_SQUARED_PER_EV * encut) ** 1.5 / (6 * np.pi**2))


def electronic_lines(step: IonicStep) -> list[str]:
    """Return one line for each electronic step, as in OSZICAR and on standard output."""
    energies = step.electronic_energies
    changes = np.diff(energies, prepend=0.0)
    return [
        f"DAV: {n:3d}    {energy:19.12E}   {change:12.5E}   {change:12.5E}{1000:7d}"
        f"   {abs(change):9.3E}"
        for n, (energy, change) in enumerate(zip(energies, changes, strict=True), 1)
    ]


def summary_line(step: IonicStep, magnetization: float | None) -> str:
    """Return the last line of an ionic step in OSZICAR and on standard output."""
    energy = step.electronic_energies[-1]
    line = f"{step.number:4d} F= {energy:14.8E} E0= {energy:14.8E}  d E ={step.change:13.6E}"
    return line if magnetization is None else f"{line}  mag={magnetization:10.4f}"


class Outcar:
    """Write one OUTCAR, step by step.

    Parameters
    ----------
    path
        Path of the file, which is overwritten.
    inputs
        Inputs of the calculation.
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self._inputs = inputs
        self._file = path.open("w", encoding="utf-8")
        self._started = time.monotonic()
        n_waves = n_plane_waves(inputs.structure.volume, inputs.encut)
        n_kpoints = len(inputs.kpoints)
        self._write(
            f" vasp.{VERSION} {NOTICE}",
            " running on    1 total cores",
            *(f" POTCAR:  {single.header}" for single in inputs.potcar),
            f"   k-points           NKPTS = {n_kpoints:6d}   k-points in BZ     NKDIM ="
            f" {n_kpoints:6d}   number of bands    NBANDS= {inputs.n_bands:6d}",
            f"   total plane-waves  NPLWV = {POINTS_PER_WAVE * n_waves:6d}",
            f"   ENCUT  = {inputs.encut:6.1f} eV",
            f"   ISPIN  = {inputs.n_spins:6d}    spin polarized calculation?",
            f"   NELM   = {inputs.nelm:6d};   EDIFF  = {inputs.ediff:.1E}",
            f"   EDIFFG = {inputs.ediffg:.1E}",
            f"   NSW    = {max(0, inputs.incar.get('NSW', 0)):6d}",
            f"   IBRION = {inputs.ibrion:6d}",
            f"   NELECT = {inputs.n_electrons:12.4f}    total number of electrons",
            *("", "", "-" * 104, "", ""),
            *(
                f" k-point {n:4d} :{a:9.4f}{b:8.4f}{c:8.4f}  plane waves: {n_waves:7d}"
                for n, (a, b, c) in enumerate(inputs.kpoints.points, 1)
            ),
            "",
            f" maximum and minimum number of plane-waves per node : {n_waves:8d} {n_waves:8d}",
            "",
        )

    def add(self, step: IonicStep, magnetization: float | None) -> None:
        """Add an ionic step; ``magnetization`` is None without spin polarization."""
        elapsed = f"  cpu time {time.process_time():9.4f}: real time {self._elapsed:9.4f}"
        for n, energy in enumerate(step.electronic_energies, 1):
            self._write(
                f"{'-' * 38} Iteration {step.number:6d}({n:4d})  {'-' * 38}",
                f"  entropy T*S    EENTRO =  {0:15.8f}",
                f"  free  energy   TOTEN  = {energy:18.8f} eV",
                f"      LOOP:{elapsed}",
            )
        if step.is_electronically_converged:
            self._write(f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 24}")
        mag = "" if magnetization is None else f"{magnetization:15.7f}"
        energy = step.electronic_energies[-1]
        self._write(
            f" number of electron {self._inputs.n_electrons:15.7f} magnetization {mag}",
            "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
            "  in kB   " + "".join(f"{value:12.5f}" for value in _voigt(step.stress)),
            f"  external pressure = {np.trace(step.stress) / 3:11.2f} kB  Pullay stress ="
            f" {0:11.2f} kB",
            "  volume of cell : " + f"{step.structure.volume:12.2f}",
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + "-" * 83,
            *(
                "".join(f"{value:13.5f}" for value in position)
                + "".join(f"{value:14.6f}" for value in force)
                for position, force in zip(step.structure.cart_coords, step.forces, strict=True)
            ),
            " " + "-" * 83,
            "    total drift: " + "".join(f"{value:14.6f}" for value in step.forces.sum(axis=0)),
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            f"  free  energy   TOTEN  = {energy:18.8f} eV",
            "",
            f"  energy  without entropy={energy:18.8f}  energy(sigma->0) ={energy:18.8f}",
            f"     LOOP+:{elapsed}",
            "",
        )

    def close(self, step: IonicStep, spectrum: Spectrum, *, is_stopped: bool) -> None:
        """End the file with bands, moments and times."""
        if is_stopped:
            self._write(" soft stop encountered!  aborting job ...")
        if step.is_converged:
            self._write(f" {CONVERGED}")
        self._write(
            f" E-fermi : {spectrum.efermi:9.4f}     XC(G=0): -10.0000     alpha+bet : -10.0000"
        )
        if self._inputs.is_polarized and self._inputs.incar.get("LORBIT", 0) >= MOMENTS_FROM:
            self._write(*_moments_table(step))
        cpu = time.process_time()
        self._write(
            " General timing and accounting",
            " =============================",
            "",
            f"                  Total CPU time used (sec): {cpu:12.3f}",
            f"                            User time (sec): {cpu:12.3f}",
            f"                          System time (sec): {0:12.3f}",
            f"                         Elapsed time (sec): {self._elapsed:12.3f}",
            "",
            "                   Maximum memory used (kb):           0.",
            "                   Average memory used (kb):          N/A",
        )
        self._file.close()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _write(self, *lines: str) -> None:
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()


def write_contcar(folder: Path, structure: Structure) -> None:
    """Write the last structure."""
    Poscar(structure, comment=NOTICE).write_file(folder / "CONTCAR", significant_figures=16)


def write_final_files(
    folder: Path, inputs: Inputs, steps: Iterable[IonicStep], spectrum: Spectrum
) -> None:
    """Write XDATCAR, IBZKPT, EIGENVAL and, if requested, CHGCAR and WAVECAR without content."""
    structures = [step.structure for step in steps]
    (folder / "XDATCAR").write_text(_xdatcar(structures), encoding="utf-8")
    (folder / "IBZKPT").write_text(_ibzkpt(inputs), encoding="utf-8")
    (folder / "EIGENVAL").write_text(_eigenval(inputs, spectrum), encoding="utf-8")
    if inputs.incar.get("LCHARG", True):
        poscar = Poscar(structures[-1], comment=NOTICE).get_str()
        (folder / "CHGCAR").write_text(f"{poscar}\n    1    1    1\n 0.0\n", encoding="utf-8")
    if inputs.incar.get("LWAVE", True):
        (folder / "WAVECAR").write_text(f"{NOTICE}\n", encoding="utf-8")


def _voigt(stress: np.ndarray) -> list[float]:
    """Return the components XX, YY, ZZ, XY, YZ, ZX."""
    return [stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))]


def _moments_table(step: IonicStep) -> list[str]:
    rows = []
    for n, (site, moment) in enumerate(zip(step.structure, step.moments, strict=True), 1):
        is_d = site.specie.block == "d"
        rows.append(
            f"{n:5d}    {0:10.3f}{0 if is_d else moment:10.3f}{moment if is_d else 0:10.3f}"
            f"{moment:10.3f}"
        )
    return [
        "",
        " magnetization (x)",
        "",
        "# of ion       s       p       d       tot",
        "-" * 42,
        *rows,
        "-" * 50,
        f"tot      {0:10.3f}{0:10.3f}{0:10.3f}{step.moments.sum():10.3f}",
        "",
    ]


def _xdatcar(structures: list[Structure]) -> str:
    lines: list[str] = []
    for n, structure in enumerate(structures, 1):
        poscar = Poscar(structure, comment="rehearsal").get_str(significant_figures=8).splitlines()
        lines += [*poscar[:7], f"Direct configuration= {n:5d}"]
        lines += [" ".join(line.split()[:3]) for line in poscar[8 : 8 + len(structure)]]
    return "\n".join(lines) + "\n"


def _ibzkpt(inputs: Inputs) -> str:
    points = inputs.kpoints.points
    smallest = inputs.kpoints.weights[inputs.kpoints.weights > 0].min()
    multiples = np.round(inputs.kpoints.weights / smallest).astype(int)
    rows = [
        "".join(f"{x:20.14f}" for x in point) + f"{multiple:14d}"
        for point, multiple in zip(points, multiples, strict=True)
    ]
    return "\n".join(
        ["Automatically generated mesh", f"{len(points):8d}", "Reciprocal lattice", *rows, ""]
    )


def _eigenval(inputs: Inputs, spectrum: Spectrum) -> str:
    n_spins, n_kpoints, n_bands = spectrum.energies.shape
    n_atoms = len(inputs.structure)
    lines = [
        f"{n_atoms:5d}{n_atoms:5d}{1:5d}{n_spins:5d}",
        "  0.0  0.0  0.0  0.0  0.0",
        "  0.0",
        "  CAR ",
        f" {NOTICE}",
        f"{round(inputs.n_electrons):7d}{n_kpoints:7d}{n_bands:7d}",
    ]
    for k, (point, weight) in enumerate(
        zip(inputs.kpoints.points, inputs.kpoints.weights, strict=True)
    ):
        lines += ["", "".join(f"{x:15.7E}" for x in (*point, weight))]
        lines += [
            f"{band + 1:5d}"
            + "".join(f"{energy:14.6f}" for energy in spectrum.energies[:, k, band])
            + "".join(f"{filled:11.6f}" for filled in spectrum.occupations[:, k, band])
            for band in range(n_bands)
        ]
    return "\n".join(lines) + "\n"
