"""Count the ionic steps of VASP that a pre-relaxation with CHGNet saves.

    python benchmarks/pre_relaxation.py

relaxes reference phases of Mg-Mn-O, strained and rattled, and structures of the shipped generator.
Each is relaxed twice in a row with the inputs of ``MPRelaxSet``, as with ``engines.vasp``. The
stand-in for VASP uses SevenNet-0 and the pre-relaxation CHGNet; with one potential for both, no
ionic steps would be left. VASP has PBE+U and conjugate gradients instead of SevenNet-0 and
quasi-Newton steps, so the ratio is only a guide. A relaxation that is not converged after NSW = 99
steps counts as 99. The smallest number of two relaxations is 4, because convergence needs an
energy difference.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pymatgen.core import Structure
from pymatgen.io.vasp.outputs import Oszicar
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.campaign.model import SHIPPED_GENERATOR
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.checkpoint import load
from gan_htvs.magnetism.initial_moments import magnetic_starts
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.thermodynamics.references import reference_phases
from launchers.rehearsal.environment import stand_in
from launchers.rehearsal.program import run

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
STRAIN, RATTLE = 0.04, 0.1
"""Relative strain and largest random displacement, A, of the reference phases."""

GENERATED = ("MgMn2O4", "Mg2MnO4", "Mg2Mn2O6")
STAND_IN_POTENTIAL = "sevennet-0"
FUNCTIONAL = "PBE"


def main() -> None:
    """Relax all structures with and without pre-relaxation; print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="Count what a pre-relaxation saves.")
    parser.add_argument(
        "--references", type=int, default=4, help="smallest reference phases with Mn"
    )
    parser.add_argument("--generated", type=int, default=1, help="of each composition")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    print(f"{'structure':28s} atoms  CHGNet  after it  without  energy, meV/atom")
    after_it, without = [], []
    for name, structure in structures(arguments.references, arguments.generated):
        pre_relaxed, n_potential_steps = pre_relax(structure)
        steps, energy = relax_twice(pre_relaxed)
        steps_alone, energy_alone = relax_twice(structure)
        after_it.append(steps)
        without.append(steps_alone)
        print(
            f"{name:28s} {len(structure):5d} {n_potential_steps:7d} {steps:9d} {steps_alone:8d} "
            f"{1e3 * (energy - energy_alone):+17.1f}",
            flush=True,
        )
    print(f"load of the machine: {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores")
    print(
        json.dumps(
            {
                "claim": f"ionic steps of {len(without)} Mg-Mn-O structures after CHGNet",
                "value": sum(after_it),
                "unit": "ionic steps",
                "baseline": sum(without),
                "ratio": round(sum(without) / sum(after_it), 2),
            }
        )
    )


def structures(n_references: int, n_generated: int) -> Iterator[tuple[str, Structure]]:
    """Yield names and structures with the ferromagnetic cell of the engine."""
    phases = [
        phase
        for phase in reference_phases(SYSTEM.elements)
        if {"Mn", "O"} <= set(phase.structure.symbol_set)
    ]
    for phase in sorted(phases, key=lambda phase: len(phase.structure))[:n_references]:
        structure = phase.structure.copy()
        structure.apply_strain(STRAIN)
        structure.perturb(RATTLE, seed=0)
        yield phase.name, ferromagnet(structure)
    proposer = GanProposer(load(SHIPPED_GENERATOR, system=SYSTEM))
    for formula in GENERATED:
        sampled = sample(proposer, SYSTEM.counts(formula), n_generated, seed=0)
        for number, structure in enumerate(sampled.structures, 1):
            yield f"{formula}, generated, {number}", ferromagnet(structure)


def ferromagnet(structure: Structure) -> Structure:
    """Return the primitive cell without moments, which MPRelaxSet sets."""
    (start,) = magnetic_starts(structure, orders=("FM",)).values()
    return start.remove_site_property("magmom")


def pre_relax(structure: Structure) -> tuple[Structure, int]:
    """Relax with CHGNet as a flow does before VASP, and count the steps."""
    relaxed = relax(structure, PotentialSettings(name="chgnet")).relaxed
    if relaxed is None:
        raise SystemExit(f"{structure.composition.reduced_formula}: CHGNet failed")
    return relaxed.structure, relaxed.n_steps or 0


def relax_twice(structure: Structure) -> tuple[int, float]:
    """Relax twice in a row; return the number of ionic steps and the final energy, eV/atom."""
    n_steps, energy = 0, 0.0
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
            folder = Path(name)
            inputs = MPRelaxSet(structure, user_potcar_functional=FUNCTIONAL)
            with stand_in(folder / "potcars", inputs.potcar_symbols, FUNCTIONAL, ""):
                inputs.write_input(folder)
                if run(folder, STAND_IN_POTENTIAL):
                    raise SystemExit((folder / "OUTCAR").read_text()[-500:])
            oszicar = Oszicar(folder / "OSZICAR")
            n_steps += len(oszicar.ionic_steps)
            energy = oszicar.final_energy / len(structure)
            structure = Structure.from_file(folder / "CONTCAR")
    return n_steps, energy


if __name__ == "__main__":
    main()
