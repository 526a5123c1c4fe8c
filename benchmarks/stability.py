"""Time the hull and Pourbaix stability of a whole campaign against pymatgen.

    python benchmarks/stability.py

places 9,300 random candidates of charge-balanced compositions on the convex hull and in the
Pourbaix diagram at 141 pH values, from formulas and energies to arrays, including set-up. There are
two cases: Mg-Mn-O with 13 reference phases, whose energies are tabulated CHGNet values, and
Ca-Mn-Ti-O with 500 synthetic reference phases. Nothing is relaxed.

pymatgen's ``PhaseDiagram`` and ``PourbaixDiagram`` do the same for a sample of the candidates, one
by one, with one Pourbaix diagram for each ratio of the metals; their time is extrapolated to all
candidates and all ratios. The results of both are compared. Times are processor times of one
thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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

Ratio: TypeAlias = tuple[tuple[str, float], ...]
"""Fraction of each metal among the metals."""

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


N_SYNTHETIC = 500
ABSENT = 0.6
"""Probability that a synthetic phase lacks a metal in one of its oxidation states."""
MIXING_ENERGIES = (-0.15, 0.10)
"""Smallest and largest energy of a synthetic phase relative to binary oxides, eV/atom."""

BINARY_OXIDES = {
    ("Ca", 2): -3.291,
    ("Mn", 2): -1.996,
    ("Mn", 3): -1.988,
    ("Mn", 4): -1.797,
    ("Ti", 2): -2.693,
    ("Ti", 3): -3.153,
    ("Ti", 4): -3.264,
}
"""Formation energies by metal and oxidation state, eV/atom: enthalpies of the NBS tables (1982)."""


@dataclass(frozen=True)
class Case:
    """A chemical system, its reference phases, and the number of candidates for pymatgen."""

    system: ChemicalSystem
    oxidation_states: dict[str, tuple[float, float]]
    formation_energies: dict[str, float]
    n_sample: int

    def references(self) -> ReferenceSet:
        """Return a new reference set."""
        return ReferenceSet(
            entries=tuple(
                ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory="any")
                for f, e in self.formation_energies.items()
            )
        )


def main() -> None:
    """Time both, compare their numbers, and print a table and one line of JSON for each case."""
    parser = argparse.ArgumentParser(description="Time the stability of a whole campaign.")
    parser.add_argument("--candidates", type=int, default=9300)
    parser.add_argument(
        "--sample", type=int, help="candidates for pymatgen; default: 300, or 20 of four elements"
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    cases = [
        Case(
            ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12}),
            {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)},
            FORMATION_ENERGIES,
            300,
        ),
        Case(
            ChemicalSystem(caps={"Ca": 4, "Mn": 4, "Ti": 4, "O": 16}),
            {"Ca": (2.0, 2.0), "Mn": (2.0, 4.0), "Ti": (2.0, 4.0), "O": (-2.0, -2.0)},
            synthetic_phases(rng),
            20,
        ),
    ]
    for case in cases:
        run(case, arguments.candidates, arguments.sample or case.n_sample, rng)


def run(case: Case, n_candidates: int, n_sample: int, rng: np.random.Generator) -> None:
    """Time one case and print its results."""
    compositions = case.system.compositions(case.oxidation_states)
    cells = [case.system.formula(counts) for counts in compositions]
    formulas = rng.choice(cells, n_candidates).tolist()
    energies = rng.uniform(-3, 0, n_candidates)
    sample = rng.choice(n_candidates, n_sample, replace=False)

    started = time.process_time()
    above, decomposition = place_all(case.references(), formulas, energies)
    seconds = time.process_time() - started

    started = time.process_time()
    diagrams = Diagrams(case.references(), [formulas[i] for i in sample])
    set_up = time.process_time() - started
    n_ratios = len({_ratio(composition) for composition in map(Composition, set(formulas))})
    set_up *= n_ratios / len(diagrams.pourbaix)
    started = time.process_time()
    expected = diagrams.place([formulas[i] for i in sample], energies[sample])
    seconds_each = (time.process_time() - started) / len(sample)
    pymatgen_seconds = set_up + seconds_each * len(formulas)

    worst = [
        float(np.abs(values[sample] - reference).max())
        for values, reference in zip((above, decomposition), expected, strict=True)
    ]
    n_phases = len(case.formation_energies)
    print(
        f"{case.system.chemsys}, {n_phases} reference phases, {len(formulas)} candidates of "
        f"{len(cells)} compositions x {SETTINGS.ph_points} pH values, one thread"
    )
    print(f"  gan-htvs  {seconds:8.2f} s")
    print(
        f"  pymatgen  {pymatgen_seconds:8.2f} s: {set_up:.2f} s for the diagrams of {n_ratios} "
        f"ratios of the metals, {1e3 * seconds_each:.2f} ms for each candidate "
        f"(from {len(sample)})"
    )
    print(f"  largest difference: hull {worst[0]:.1e}, Pourbaix {worst[1]:.1e} eV/atom")
    print(
        json.dumps(
            {
                "claim": f"energy above hull and Pourbaix stability of {len(formulas)} candidates "
                f"of {case.system.chemsys}, {n_phases} phases, {SETTINGS.ph_points} pH",
                "value": round(seconds, 3),
                "unit": "s of processor time",
                "baseline": round(pymatgen_seconds, 1),
                "ratio": round(pymatgen_seconds / seconds, 1),
            }
        )
    )


def synthetic_phases(rng: np.random.Generator) -> dict[str, float]:
    """Return formation energies of synthetic oxides of Ca, Mn and Ti, eV/atom, by formula.

    Their energies are those of mixtures of binary oxides plus a random energy of mixing.
    """
    energies = dict.fromkeys(("Ca", "Mn", "Ti", "O2"), 0.0)
    energies |= {
        Composition({metal: 2, "O": state}).reduced_formula: energy
        for (metal, state), energy in BINARY_OXIDES.items()
    }
    species = list(BINARY_OXIDES)
    while len(energies) < N_SYNTHETIC:
        counts = rng.integers(0, 7, len(species))
        counts[rng.random(len(species)) < ABSENT] = 0
        if not counts.any():
            continue
        amounts: dict[str, float] = defaultdict(float)
        mixture = 0.0
        for (metal, state), count in zip(species, counts.tolist(), strict=True):
            amounts[metal] += count
            amounts["O"] += count * state / 2
            mixture += BINARY_OXIDES[metal, state] * count * (1 + state / 2)
        composition = Composition(amounts)
        energy = mixture / composition.num_atoms + rng.uniform(*MIXING_ENERGIES)
        energies.setdefault(composition.get_integer_formula_and_factor()[0], energy)
    return energies


def place_all(
    reference_set: ReferenceSet, formulas: list[str], energies: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies above hull and Pourbaix decomposition energies of all candidates at once."""
    above = reference_set.decomposition_energies(formulas, energies)
    formation = reference_set.formation_energies_per_atom(formulas, energies)
    analyzer = PourbaixAnalyzer(reference_set, SETTINGS)
    stabilities = analyzer.stabilities(formulas, formation)
    return above, np.array([stability.decomposition_energies for stability in stabilities])


class Diagrams:
    """pymatgen's diagrams: one hull, and one Pourbaix diagram for each ratio of the metals."""

    def __init__(self, reference_set: ReferenceSet, formulas: list[str]) -> None:
        self.hull = reference_set.phase_diagram
        analyzer = PourbaixAnalyzer(reference_set, SETTINGS)
        self.pourbaix: dict[Ratio, PourbaixDiagram] = {}
        for composition in map(Composition, sorted(set(formulas))):
            if _ratio(composition) not in self.pourbaix:
                self.pourbaix[_ratio(composition)] = analyzer.diagram(_metals(composition))
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


def _metals(composition: Composition) -> dict[str, float]:
    return {symbol: n for symbol, n in composition.get_el_amt_dict().items() if symbol != "O"}


def _ratio(composition: Composition) -> Ratio:
    metals = _metals(composition)
    n_metals = sum(metals.values())
    return tuple((symbol, round(n / n_metals, 9)) for symbol, n in sorted(metals.items()))


if __name__ == "__main__":
    main()
