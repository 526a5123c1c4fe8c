"""Levels of theory, and the corrections that make energies comparable.

The Materials Project fits its MP2020 corrections (Wang et al., Sci. Rep. 11, 15496 (2021)) to raw
GGA and GGA+U energies. CHGNet is trained on energies that include them. SevenNet and VASP return
raw energies, and so do the force fields of atomate2, by assumption.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pymatgen.analysis.structure_analyzer import oxide_type
from pymatgen.core import Element
from pymatgen.core.entries import ComputedStructureEntry
from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility

from gan_htvs.core.errors import CalculationError
from gan_htvs.potentials.calculators import force_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure

HUBBARD_ANIONS = frozenset({"O", "F"})
"""Anions of the compounds in which the Materials Project applies U to transition metals."""

MAX_SITES = 20
"""Largest number of atoms in a reduced formula whose oxidation states are guessed, as in pymatgen:
the time grows steeply with it."""


@dataclass(frozen=True)
class LevelOfTheory:
    """Method of an energy.

    Attributes
    ----------
    label
        Stored name; energies with different labels are never compared.
    is_corrected
        Whether the method returns energies that include the MP2020 corrections.
    """

    label: str
    is_corrected: bool


LEVELS_OF_THEORY = {
    "chgnet": LevelOfTheory("CHGNet-0.3.0", is_corrected=True),
    "sevennet-0": LevelOfTheory("SevenNet-0+MP2020", is_corrected=False),
    "sevennet-l3i5": LevelOfTheory("SevenNet-l3i5+MP2020", is_corrected=False),
    "vasp": LevelOfTheory("PBE(+U)+MP2020", is_corrected=False),
}
"""Levels of theory by energy engine, corrections included."""


def level_of_theory(engine: str, arguments: Mapping[str, Any] | None = None) -> LevelOfTheory:
    """Return the level of theory of an energy engine.

    Parameters
    ----------
    engine
        Name in `engines.energy`.
    arguments
        Arguments of a force field, which are part of the label: another model is another level.

    Raises
    ------
    CalculationError
        If energies of this calculator are not comparable with the hull, such as those of hybrids.
    """
    if engine in LEVELS_OF_THEORY:
        return LEVELS_OF_THEORY[engine]
    if "hse" in engine.lower():
        raise CalculationError(
            f"an energy of {engine} cannot be compared with the hull: the references are GGA(+U); "
            "use hybrids for band gaps only"
        )
    if engine in force_fields():
        return LevelOfTheory(f"{engine}{_in_brackets(arguments)}+MP2020", is_corrected=False)
    raise CalculationError(
        f"an energy of the unknown calculator {engine!r} cannot be compared with the hull; choose "
        "from "
        f"{', '.join((*LEVELS_OF_THEORY, *force_fields()))}"
    )


def _in_brackets(arguments: Mapping[str, Any] | None) -> str:
    if not arguments:
        return ""
    values = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in sorted(arguments.items())
    }
    return f"({', '.join(f'{key}={value}' for key, value in values.items())})"


def energy_correction(structure: Structure, energy_per_atom: float, engine: str) -> float:
    """Compute the correction of a raw energy, eV/atom; 0 if the energy includes it.

    ``energy_per_atom`` is the raw energy, eV/atom.

    Raises
    ------
    CalculationError
        If the energy is missing or not finite, the calculator is unknown or a hybrid, or the
        Materials Project has no corrections for such a compound.
    """
    level = level_of_theory(engine)
    if energy_per_atom is None or not math.isfinite(energy_per_atom):
        raise CalculationError(f"the energy is not a number: {energy_per_atom}")
    if level.is_corrected:
        return 0.0
    composition = structure.composition
    hubbards = _hubbards(frozenset(composition.get_el_amt_dict()))
    entry = ComputedStructureEntry(
        structure,
        energy_per_atom * composition.num_atoms,
        parameters={
            "run_type": "GGA+U" if hubbards else "GGA",
            "hubbards": hubbards,
            "software": engine,
        },
        # Without them, every formula that reduces to MgO2 would count as a peroxide.
        data={
            "oxide_type": oxide_type(structure),
            "oxidation_states": _oxidation_states(structure),
        },
    )
    try:
        adjustments = _scheme().get_adjustments(entry)
    except CompatibilityError as error:
        raise CalculationError(f"no MP2020 correction: {error}") from error
    return sum(adjustment.value for adjustment in adjustments) / composition.num_atoms


@cache
def _scheme() -> MaterialsProject2020Compatibility:
    return MaterialsProject2020Compatibility(check_potcar=False)


@cache
def _hubbards(symbols: frozenset[str]) -> dict[str, float]:
    """Return the U of each element in a compound, eV, in the Materials Project."""
    if not symbols & HUBBARD_ANIONS:
        return {}
    anion = max(symbols & HUBBARD_ANIONS, key=lambda symbol: Element(symbol).X)
    settings = _scheme().u_settings[anion]
    return {symbol: settings[symbol] for symbol in sorted(symbols & settings.keys())}


def _oxidation_states(structure: Structure) -> dict[str, float]:
    """Return the most probable oxidation states; empty if there are none, or for large formulas.

    Without them the scheme takes the most electronegative element as the anion.
    """
    try:
        guesses = structure.composition.oxi_state_guesses(max_sites=-MAX_SITES)
    except ValueError:
        return {}
    return guesses[0] if guesses else {}
