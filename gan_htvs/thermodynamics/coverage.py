"""Subsystems without reference phases, which make a convex hull incomplete."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gan_htvs.core.text import join_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SYSTEMS_WITHOUT_COMPOUNDS = Path(__file__).with_name("systems_without_compounds.yaml")

MAX_ELEMENTS = 5
"""Largest number of elements of a subsystem; the number of subsystems grows steeply with it."""


def subsystems(
    elements: Iterable[str], smallest: int = 1, largest: int | None = None
) -> list[tuple[str, ...]]:
    """Return the chemical systems of these elements, fewest elements first.

    Parameters
    ----------
    elements
        Symbols; each system has them in alphabetical order.
    smallest, largest
        Numbers of elements of a system; None: no upper limit.
    """
    symbols = sorted(set(elements))
    sizes = range(smallest, min(len(symbols), largest or len(symbols)) + 1)
    return [subset for size in sizes for subset in combinations(symbols, size)]


def uncovered_subsystems(elements: Iterable[str], covered: Iterable[str]) -> list[str]:
    """Return the subsystems of two to five elements that may have compounds and are not covered.

    Parameters
    ----------
    elements
        Symbols of the chemical system.
    covered
        Chemical systems with reference phases, such as Mg-O; elements in alphabetical order.

    Returns
    -------
    Chemical systems, fewest elements first. Systems that are known to have no compounds are
    omitted.
    """
    excluded = {*covered, *_without_compounds()}
    systems = ["-".join(subset) for subset in subsystems(elements, 2, MAX_ELEMENTS)]
    return [system for system in systems if system not in excluded]


def within(subsystems: Iterable[str], elements: Iterable[str]) -> list[str]:
    """Return the subsystems that have no elements but the given ones."""
    symbols = set(elements)
    return [system for system in subsystems if symbols.issuperset(system.split("-"))]


def all_uncovered(candidates: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the uncovered subsystems of any of these candidates, fewest elements first."""
    names = {name for row in candidates for name in row.get("uncovered_subsystems") or ()}
    return sorted(names, key=lambda name: (name.count("-"), name))


def incomplete_hull_warning(subsystems: Sequence[str]) -> str | None:
    """Return the warning that a hull lacks these subsystems; None if it lacks none."""
    if not subsystems:
        return None
    return (
        f"The hull is incomplete: the reference phases include no compound of "
        f"{join_names(subsystems)}, so candidates with these elements may look too stable."
    )


@cache
def _without_compounds() -> frozenset[str]:
    return frozenset(yaml.safe_load(SYSTEMS_WITHOUT_COMPOUNDS.read_text(encoding="utf-8")))
