"""A campaign.yaml to start from, for any chemical system."""

from __future__ import annotations

from importlib import resources
from itertools import product
from math import prod
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.analysis.bond_valence import PRIOR_PROB
from pymatgen.core import Element

from gan_htvs.core.chemical_system import ChemicalSystem, Counts, find_anions
from gan_htvs.core.errors import UserError
from gan_htvs.core.oxidation import MOMENTS
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.yaml_text import yaml_text
from gan_htvs.dataset.polyanions import center_elements
from gan_htvs.thermodynamics.ions import SOLVENT, ion_set_of
from gan_htvs.thermodynamics.references import missing_from_package
from launchers.cli.options import FunnelTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED_SYSTEM = "Mg-Mn-O"
"""Chemical system of the shipped generator, dataset and demonstration campaign."""

MAX_CATIONS, MAX_ANIONS = 8, 12
"""Maximum number of atoms of each element in the cell, as in the Mg-Mn-O campaign."""

N_CELLS = 4
"""Largest number of compositions."""

MIN_SHARE = 0.05
"""Smallest share of a typical oxidation state among the cations of an element."""

FETCHED_REFERENCES = """
# The package does not have all reference phases of $chemsys. The first command that reads this file
# fetches them from the Materials Project (OPTIMADE, no key needed) and writes them to
# references.json. Your own files: {source: folder, path: FOLDER} or {source: file, path: FILE}.
references: {source: optimade}
"""

ANION_HERE = """
# $element is an anion here. In polyanions with $other, write $element: [$state, $state]."""

CENTER_HERE = """
# $element is the center of polyanions with O here. As an anion, write $element: [-2, -2]."""

NO_IONS = """
# The package has no aqueous ions of $elements, so candidates get no Pourbaix stability. You can
# name a file with such ions in pourbaix.ion_file (docs/stability.md).
"""


REDOX_STAGE = """
  - {name: oxidizable_$element, property: oxidation_state_$element, max: $highest}"""

MIN_OXIDATION = 0.5
"""Electrons per atom that a redox-active element can still lose."""


def starting_campaign(chemsys: str, template: FunnelTemplate = FunnelTemplate.PHOTOANODE) -> str:
    """Return the text of a campaign.yaml for a chemical system.

    Parameters
    ----------
    chemsys
        Element symbols separated by hyphens, such as Ca-Mn-O, in the order of the formulas.
    template
        Stages of the funnel.

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
    is_demo = set(symbols) == set(SHIPPED_SYSTEM.split("-"))
    if is_demo and template == FunnelTemplate.PHOTOANODE:
        return (templates / "demo.yaml").read_text(encoding="utf-8")
    states = {symbol: _typical_states(symbol, symbols) for symbol in symbols}
    anions = _anions(symbols)
    caps = {symbol: MAX_ANIONS if symbol in anions else MAX_CATIONS for symbol in symbols}
    system = ChemicalSystem(caps=caps)
    cells = _smallest_cells(system, states)
    if not cells:
        raise UserError(
            f"--system {chemsys}: no composition with typical oxidation states is charge-balanced; "
            "write a campaign.yaml with other oxidation_states by hand."
        )
    funnel = Template((templates / f"stages-{template}.yaml").read_text(encoding="utf-8"))
    engines = (templates / "gpaw.yaml").read_text(encoding="utf-8")
    text = Template((templates / "system.yaml").read_text(encoding="utf-8"))
    return text.substitute(
        chemsys=chemsys,
        name="-".join(symbols).lower(),
        caps=_in_one_line(system.caps),
        oxidation_states=_in_one_line({name: [min(s), max(s)] for name, s in states.items()}),
        notes_on_anions=_notes_on_anions(symbols),
        compositions=_in_one_line([system.formula(counts) for counts in cells]),
        first=system.formula(cells[0]),
        n_first=sum(cells[0]),
        max_atoms=max(map(sum, cells)),
        references=_references(symbols, chemsys, template),
        stages=funnel.substitute(redox_stages=_redox_stages(states)),
        band_gap=engines if template == FunnelTemplate.PHOTOANODE else "",
    )


def _redox_stages(states: Mapping[str, Mapping[int, float]]) -> str:
    """Return one stage for each redox-active element, which requires that it can be oxidized."""
    stages = [
        Template(REDOX_STAGE).substitute(element=symbol, highest=max(states) - MIN_OXIDATION)
        for symbol, states in states.items()
        if len(states) > 1 and symbol in MOMENTS
    ]
    return "".join(stages)


def _typical_states(symbol: str, symbols: list[str]) -> dict[int, float]:
    """Return the typical oxidation states of an element in the system, with their shares.

    The shares are those of the ICSD (pymatgen's ``PRIOR_PROB``). Metals have the states of at least
    ``MIN_SHARE`` of their cations: V(III) to V(V), Cu(I) and Cu(II), but no Mn(VII). Anions and the
    centers of polyanions have their most frequent state: S(-II) in sulfides, S(VI) in sulfates.
    Elements that the table lacks, such as Pt, have the common states of pymatgen.
    """
    sign = -1 if symbol in _anions(symbols) else 1
    common = [state for state in Element(symbol).common_oxidation_states if sign * state > 0]
    numbers = {
        int(species.oxi_state): number
        for species, number in PRIOR_PROB.items()
        if species.element.symbol == symbol and sign * species.oxi_state > 0
    }
    if sign < 0:  # Zintl anions are not typical
        numbers = {state: number for state, number in numbers.items() if state in common}
    if not numbers:
        return dict.fromkeys(common, 1.0)
    if sign < 0 or center_elements([symbol]):
        return {max(numbers, key=lambda state: numbers[state]): 1.0}
    total = sum(numbers.values())
    shares = {state: number / total for state, number in sorted(numbers.items())}
    return {state: share for state, share in shares.items() if share >= MIN_SHARE}


def _anions(symbols: list[str]) -> frozenset[str]:
    """Return the anions of the system.

    Chalcogens beside O are the centers of polyanions, as in sulfates. In systems without the anions
    of :func:`find_anions`, the most electronegative element is the anion.
    """
    anions = find_anions(symbols) or frozenset({max(symbols, key=lambda s: Element(s).X)})
    return anions - _chalcogens_beside_oxygen(symbols)


def _chalcogens_beside_oxygen(symbols: list[str]) -> frozenset[str]:
    chalcogens = frozenset(symbol for symbol in symbols if Element(symbol).is_chalcogen)
    return chalcogens - {"O"} if "O" in chalcogens else frozenset()


def _notes_on_anions(symbols: list[str]) -> str:
    """Return notes on the elements that are either anions or the centers of polyanions."""
    anions = sorted(_anions(symbols), key=lambda s: Element(s).X)
    notes = [
        Template(ANION_HERE).substitute(element=anion, other=anions[-1], state=highest)
        for anion in anions[:-1]
        if (highest := max(Element(anion).common_oxidation_states)) > 0
    ]
    centers = sorted(_chalcogens_beside_oxygen(symbols))
    notes += [Template(CENTER_HERE).substitute(element=center) for center in centers]
    return "".join(notes)


def _smallest_cells(
    system: ChemicalSystem, states: Mapping[str, Mapping[int, float]]
) -> list[Counts]:
    """Return the smallest neutral cell of each of the most frequent combinations of states.

    In a combination, each element has one oxidation state. Smallest cells are first.
    """
    ranges = [range(1, cap + 1) for cap in system.max_counts]
    cells = np.array(sorted(product(*ranges), key=sum))
    combinations = product(*(shares.items() for shares in states.values()))
    most_frequent_first = sorted(
        combinations, key=lambda pairs: prod(share for _, share in pairs), reverse=True
    )
    smallest: list[Counts] = []
    for pairs in most_frequent_first:
        is_neutral = cells @ [state for state, _ in pairs] == 0
        if is_neutral.any():
            smallest.append(tuple(cells[is_neutral.argmax()].tolist()))
    return sorted(list(dict.fromkeys(smallest))[:N_CELLS], key=sum)


def _references(symbols: list[str], chemsys: str, template: FunnelTemplate) -> str:
    """Return the section of reference phases, and a note if aqueous ions are missing."""
    text = ""
    if missing_from_package(symbols):
        text = Template(FETCHED_REFERENCES).substitute(chemsys=chemsys)
    if template != FunnelTemplate.PHOTOANODE:
        return text
    with_ions = ion_set_of(PourbaixSettings()).reference_solids
    if elements := [s for s in symbols if s not in {*with_ions, *SOLVENT}]:
        text += Template(NO_IONS).substitute(elements=", ".join(elements))
    return text


def _in_one_line(value: Any) -> str:
    """Return YAML in one line; symbols that YAML would read as booleans are quoted."""
    return yaml_text(value, default_flow_style=True, width=1000).strip()
