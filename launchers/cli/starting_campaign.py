"""A campaign.yaml to start from, for any chemical system."""

from __future__ import annotations

from importlib import resources
from itertools import islice, product
from math import gcd
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pymatgen.core import Element

from gan_htvs.core.chemical_system import ChemicalSystem, Counts, find_anions
from gan_htvs.core.errors import UserError
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.dataset.polyanions import center_elements
from gan_htvs.thermodynamics.ions import SOLVENT, ion_set_of
from gan_htvs.thermodynamics.references import missing_from_package

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED_SYSTEM = "Mg-Mn-O"
"""Chemical system of the shipped generator, dataset and demonstration campaign."""

MAX_CATIONS, MAX_ANIONS = 8, 12
"""Maximum number of atoms of each element in the cell, as in the Mg-Mn-O campaign."""

N_CELLS = 3

FETCHED_REFERENCES = """
# The package does not have all reference phases of $chemsys. The first command that reads this file
# fetches them from the Materials Project (OPTIMADE, no key needed) and writes them to
# references.json. Your own files: {source: folder, path: FOLDER} or {source: file, path: FILE}.
references: {source: optimade}
"""

ANION_HERE = """
# $element is an anion here. In polyanions with $other, write $element: [$state, $state]."""

NO_IONS = """
# The package has no aqueous ions of $elements, so candidates get no Pourbaix stability. You can
# name a file with such ions in pourbaix.ion_file (docs/stability.md).
"""


def starting_campaign(chemsys: str) -> str:
    """Return the text of a campaign.yaml for a chemical system.

    Parameters
    ----------
    chemsys
        Element symbols separated by hyphens, such as Ca-Mn-O, in the order of the formulas.

    Raises
    ------
    UserError
        If a symbol is not an element, or no composition is charge-balanced.
    """
    templates = resources.files("launchers.cli") / "templates"
    symbols = list(dict.fromkeys(chemsys.split("-")))
    if unknown := [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]:
        raise UserError(
            f"--system {chemsys}: {unknown[0]!r} is not a chemical element; write symbols "
            f"separated by hyphens, such as {SHIPPED_SYSTEM}."
        )
    if set(symbols) == set(SHIPPED_SYSTEM.split("-")):
        return (templates / "demo.yaml").read_text(encoding="utf-8")
    states = {symbol: _common_states(symbol, symbols) for symbol in symbols}
    system = ChemicalSystem(
        caps={s: MAX_ANIONS if max(states[s], default=0) < 0 else MAX_CATIONS for s in symbols}
    )
    cells = _smallest_cells(system, states)
    if not cells:
        raise UserError(
            f"--system {chemsys}: no composition with common oxidation states is charge-balanced; "
            "write a campaign.yaml with other oxidation_states by hand."
        )
    formulas = [counts for counts in cells if gcd(*counts) == 1]
    template = Template((templates / "system.yaml").read_text(encoding="utf-8"))
    return template.substitute(
        chemsys=chemsys,
        name="-".join(symbols).lower(),
        caps=_in_one_line(system.caps),
        oxidation_states=_in_one_line({name: [min(s), max(s)] for name, s in states.items()}),
        notes_on_anions=_notes_on_anions(symbols),
        compositions=_in_one_line([system.formula(counts) for counts in formulas]),
        first=system.formula(cells[0]),
        n_first=sum(cells[0]),
        max_atoms=max(map(sum, cells)),
        references=_references(symbols, chemsys),
    )


def _common_states(symbol: str, symbols: list[str]) -> list[int]:
    """Return the common oxidation states with the sign that an element has in the system.

    Some d and f elements have only one, such as V(V) and U(VI). They also get those of crystals in
    the ICSD except the lowest, which is rare: V(III) to V(V), but no La(II) or Ni(I).

    Anions are those of :func:`find_anions`; in systems without them, the most electronegative
    element is the anion. The centers of polyanions, such as C in carbonates, have their highest
    state.
    """
    anions = find_anions(symbols) or {max(symbols, key=lambda s: Element(s).X)}
    sign = -1 if symbol in anions else 1
    element = Element(symbol)
    states = [state for state in element.common_oxidation_states if sign * state > 0]
    if sign > 0 and len(states) == 1 and element.block in ("d", "f"):
        known = sorted(state for state in element.icsd_oxidation_states if state > 0)
        states = sorted({*states, *known[1:]})
    return states[-1:] if sign > 0 and center_elements([symbol]) else states


def _notes_on_anions(symbols: list[str]) -> str:
    """Return notes on the elements that are either anions or the centers of polyanions."""
    anions = sorted(find_anions(symbols), key=lambda s: Element(s).X)
    notes = [
        Template(ANION_HERE).substitute(element=anion, other=anions[-1], state=highest)
        for anion in anions[:-1]
        if (highest := max(Element(anion).common_oxidation_states)) > 0
    ]
    return "".join(notes)


def _smallest_cells(system: ChemicalSystem, states: Mapping[str, list[int]]) -> list[Counts]:
    """Return the smallest cells that are neutral with one oxidation state for each element."""
    ranges = [range(1, cap + 1) for cap in system.max_counts]
    combinations = np.reshape(list(product(*states.values())), (-1, len(states))).T
    smallest_first = sorted(product(*ranges), key=sum)
    neutral = (counts for counts in smallest_first if not (counts @ combinations).all())
    return list(islice(neutral, N_CELLS))


def _references(symbols: list[str], chemsys: str) -> str:
    """Return the section of reference phases, and a note if aqueous ions are missing."""
    text = ""
    if missing_from_package(symbols):
        text = Template(FETCHED_REFERENCES).substitute(chemsys=chemsys)
    with_ions = ion_set_of(PourbaixSettings()).reference_solids
    if elements := [s for s in symbols if s not in {*with_ions, *SOLVENT}]:
        text += Template(NO_IONS).substitute(elements=", ".join(elements))
    return text


def _in_one_line(value: Any) -> str:
    """Return YAML in one line; symbols that YAML would read as booleans are quoted."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
