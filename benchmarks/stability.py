"""Time the hull and Pourbaix stability of a whole campaign against pymatgen.

    python benchmarks/stability.py

places 9,300 random candidates of all charge-balanced Mg-Mn-O compositions on the convex hull and
in the Pourbaix diagram at 141 pH values, from formulas and energies to arrays, including set-up.
pymatgen's ``PhaseDiagram`` and ``PourbaixDiagram`` do the same for a sample of them, one by one,
with one Pourbaix diagram for each ratio of the metals; their time is extrapolated to all
candidates. The results of both are compared. Times are processor times of one thread. The energies
of the reference phases are tabulated CHGNet values; nothing is relaxed.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.analysis.pourbaix_diagram import PREFAC, PourbaixEntry
from pymatgen.core import Composition
from pymatgen.core.entries import ComputedEntry

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer, free_energy_per_atom

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.analysis.pourbaix_diagram import PourbaixDiagram

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
OXIDATION_STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}
SETTINGS = PourbaixSettings(ph_points=141)
FORMATION_ENERGIES = {
    "Mg": 0.0,
    "Mn": 0.0,
    "O2": 0.0,
    "MgO": -3.060,
    "MnO": -1.968,
    "Mn3O4": -2.052,
    "Mn2O3": -2.031,
    "MnO2": -1.793,
    "MgMn2O4": -2.339,
    "MgMnO3": -2.358,
    "Mg2MnO4": -2.591,
    "Mg6MnO8": -2.867,
    "Mg2Mn3O8": -2.229,
}
"""CHGNet, eV/atom."""


def main() -> None:
    """Time both, compare their numbers, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="Time the stability of a whole campaign.")
    parser.add_argument("--candidates", type=int, default=9300)
    parser.add_argument("--sample", type=int, default=300, help="candidates for pymatgen")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    cells = [SYSTEM.formula(counts) for counts in SYSTEM.compositions(OXIDATION_STATES)]
    formulas = rng.choice(cells, arguments.candidates).tolist()
    energies = rng.uniform(-3, 0, arguments.candidates)
    sample = rng.choice(arguments.candidates, arguments.sample, replace=False)

    started = time.process_time()
    above, decomposition = place_all(formulas, energies)
    seconds = time.process_time() - started

    started = time.process_time()
    diagrams = Diagrams(formulas)
    set_up = time.process_time() - started
    started = time.process_time()
    expected = diagrams.place([formulas[i] for i in sample], energies[sample])
    seconds_each = (time.process_time() - started) / len(sample)
    pymatgen_seconds = set_up + seconds_each * len(formulas)

    worst = [
        float(np.abs(values[sample] - reference).max())
        for values, reference in zip((above, decomposition), expected, strict=True)
    ]
    print(f"{len(formulas)} candidates x {SETTINGS.ph_points} pH values, one thread")
    print(f"  gan-htvs  {seconds:8.2f} s")
    print(
        f"  pymatgen  {pymatgen_seconds:8.2f} s: {set_up:.2f} s for the diagrams of all ratios of "
        f"the metals, {1e3 * seconds_each:.2f} ms for each candidate (from {len(sample)})"
    )
    print(f"  largest difference: hull {worst[0]:.1e}, Pourbaix {worst[1]:.1e} eV/atom")
    print(
        json.dumps(
            {
                "claim": "energy above hull and Pourbaix stability of 9,300 candidates, 141 pH",
                "value": round(seconds, 3),
                "unit": "s of processor time",
                "baseline": round(pymatgen_seconds, 1),
                "ratio": round(pymatgen_seconds / seconds, 1),
            }
        )
    )


def references() -> ReferenceSet:
    """Return a new reference set."""
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory="CHGNet")
            for f, e in FORMATION_ENERGIES.items()
        )
    )


def place_all(
    formulas: list[str], energies: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies above hull and Pourbaix decomposition energies of all candidates at once."""
    reference_set = references()
    above = reference_set.energies_above_hull(formulas, energies)
    formation = reference_set.formation_energies_per_atom(formulas, energies)
    analyzer = PourbaixAnalyzer(reference_set, SETTINGS)
    stabilities = analyzer.stabilities(formulas, formation)
    return above, np.array([stability.decomposition_energies for stability in stabilities])


class Diagrams:
    """pymatgen's diagrams: one hull, and one Pourbaix diagram for each ratio of the metals."""

    def __init__(self, formulas: list[str]) -> None:
        reference_set = references()
        self.hull = reference_set.phase_diagram
        analyzer = PourbaixAnalyzer(reference_set, SETTINGS)
        self.pourbaix: dict[float, PourbaixDiagram] = {}
        for composition in map(Composition, sorted(set(formulas))):
            if _ratio(composition) not in self.pourbaix:
                metals = {symbol: composition[symbol] for symbol in ("Mg", "Mn")}
                self.pourbaix[_ratio(composition)] = analyzer.diagram(metals)
        self.ph = np.linspace(SETTINGS.ph_min, SETTINGS.ph_max, SETTINGS.ph_points)
        self.potential = SETTINGS.potential_vs_rhe - PREFAC * self.ph

    def place(
        self, formulas: list[str], energies: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the same as :func:`place_all`, one by one."""
        above, decomposition = [], []
        for composition, energy in zip(map(Composition, formulas), energies.tolist(), strict=True):
            entry = PDEntry(composition, energy * composition.num_atoms)
            above.append(self.hull.get_e_above_hull(entry, allow_negative=True))
            formation = self.hull.get_form_energy_per_atom(entry)
            free = free_energy_per_atom(composition, formation) * composition.num_atoms
            decomposition.append(
                self.pourbaix[_ratio(composition)].get_decomposition_energy(
                    PourbaixEntry(ComputedEntry(composition, free)), self.ph, self.potential
                )
            )
        return np.array(above), np.array(decomposition)


def _ratio(composition: Composition) -> float:
    return composition["Mg"] / (composition["Mg"] + composition["Mn"])


if __name__ == "__main__":
    main()
