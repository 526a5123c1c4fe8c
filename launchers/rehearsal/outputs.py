"""Text of OUTCAR, OSZICAR and standard output in the form that pymatgen and custodian parse."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from launchers.rehearsal.labels import NOTICE, VERSION

if TYPE_CHECKING:
    from launchers.rehearsal.calculation import IonicStep
    from launchers.rehearsal.inputs import Inputs
    from launchers.rehearsal.spectrum import Spectrum

CONVERGED = "reached required accuracy - stopping structural energy minimization"
"""Message of VASP when the ions are converged."""

MOMENTS_FROM = 10
"""Smallest LORBIT for which VASP writes atomic moments without RWIGS."""

GREETING = f"""\
 running on    1 total cores
 vasp.{VERSION} rehearsal complex
 entering main loop
       N       E                     dE             d eps       ncg     rms          rms(c)"""
"""Standard output after the notice; the last line precedes each ionic step in OSZICAR."""

HEADER = GREETING.splitlines()[-1]
"""Column titles of OSZICAR."""


def oszicar_step(step: IonicStep, magnetization: float | None) -> str:
    """Return the lines of an ionic step in OSZICAR and on standard output.

    Parameters
    ----------
    step
        The ionic step.
    magnetization
        Bohr magnetons; None without spin polarization.
    """
    changes = np.diff(step.energies, prepend=0.0)
    lines = [
        f"DAV: {n:3d}    {energy:19.12E}   {change:12.5E}   {change:12.5E}{1000:7d}"
        f"   {abs(change):9.3E}"
        for n, (energy, change) in enumerate(zip(step.energies, changes, strict=True), 1)
    ]
    energy = step.energies[-1]
    last = f"{step.number:4d} F= {energy:14.8E} E0= {energy:14.8E}  d E ={step.change:13.6E}"
    moment = "" if magnetization is None else f"  mag={magnetization:10.4f}"
    return "\n".join([*lines, last + moment])


def outcar_opening(inputs: Inputs) -> str:
    """Return the first lines of OUTCAR; numbers of plane waves are placeholders."""
    n_kpoints, parameters = len(inputs.points), inputs.parameters
    return f"""\
 vasp.{VERSION} {NOTICE}
 running on    1 total cores
   k-points           NKPTS = {n_kpoints:6d}   k-points in BZ     NKDIM = {n_kpoints:6d}   \
number of bands    NBANDS= {parameters["NBANDS"]:6d}
   total plane-waves  NPLWV =   1000
   ISPIN  = {inputs.n_spins:6d}    spin polarized calculation?
   IBRION = {parameters["IBRION"]:6d}


{"-" * 104}


 k-point    1 :   0.0000  0.0000  0.0000  plane waves:    1000

 maximum and minimum number of plane-waves per node :     1000     1000
"""


def outcar_step(inputs: Inputs, step: IonicStep, magnetization: float | None) -> str:
    """Return the lines of an ionic step in OUTCAR; parameters as in :func:`oszicar_step`."""
    times = f"  cpu time {time.process_time():9.4f}: real time {time.process_time():9.4f}"
    energy = f"{step.energies[-1]:18.8f}"
    moment = "" if magnetization is None else f"{magnetization:15.7f}"
    return f"""\
      LOOP:{times}
 number of electron {inputs.parameters["NELECT"]:15.7f} magnetization {moment}
    total drift:      0.000000      0.000000      0.000000
  free  energy   TOTEN  = {energy} eV

  energy  without entropy={energy}  energy(sigma->0) ={energy}
     LOOP+:{times}
"""


def outcar_end(inputs: Inputs, step: IonicStep, spectrum: Spectrum, *, is_stopped: bool) -> str:
    """Return the last lines of OUTCAR, with moments and times."""
    lines = [" soft stop encountered!  aborting job ..."] if is_stopped else []
    lines += [f" {CONVERGED}"] if step.is_converged else []
    lines.append(f" E-fermi : {spectrum.efermi:9.4f}     XC(G=0): 0.0000     alpha+bet : 0.0000")
    if inputs.n_spins > 1 and inputs.parameters["LORBIT"] >= MOMENTS_FROM:
        zeros = f"{0:10.3f}{0:10.3f}"
        lines += [
            " magnetization (x)",
            "",
            "# of ion       s       p       d       tot",
            "-" * 42,
            *(f"{n:5d}    {zeros}{m:10.3f}{m:10.3f}" for n, m in enumerate(step.moments, 1)),
            "-" * 50,
        ]
    seconds = f"{time.process_time():12.3f}"
    lines.append(f"""
 General timing and accounting
                  Total CPU time used (sec): {seconds}
                            User time (sec): {seconds}
                          System time (sec):        0.000
                         Elapsed time (sec): {seconds}

                   Maximum memory used (kb):           0.
                   Average memory used (kb):          N/A""")
    return "\n".join(lines)
