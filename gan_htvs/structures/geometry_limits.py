"""Limits of geometry that follow from the elements: volumes and distances.

All tables are those of pymatgen and ASE: molar volumes of the elements, ionic radii (Shannon, Acta
Cryst. A 1976, 32, 751) and covalent radii (Cordero et al., Dalton Trans. 2008, 2832).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii
from pydantic import Field, field_validator, model_validator
from pymatgen.core import Element
from scipy.constants import Avogadro, angstrom, centi

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.core.settings import PositiveFloat, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray
    from pymatgen.core import Composition

    from gan_htvs.core.chemical_system import OxidationRanges

VOLUME_RANGE = (0.2, 1.75)
"""Range of the volume of a structure over the volume of its elements.

The ratio is 0.3 in stishovite, 0.35 in Al2O3, 0.4 in BeO, 0.65 in diamond, 1.15 in CdSe and 1.3 in
open zeolites."""

SHORTEST, SHORTEST_WITH_METAL = 0.75, 0.6
"""Shortest distance over the sum of covalent radii, without and with a metal.

The shortest known ones are 0.77 in N2 and 0.80 in CO; 0.65 in Cr2, 0.67 in UO2(2+)."""

LOOSE = 1.15
"""Cells larger than this multiple of the target volume are loose."""

_TARGET = 5.04
"""Target volume over the sum of the mean cubes of cation and anion radii.

As spheres, the ions fill 42 % of this volume. The target is on average 1.2 times the volume of
known crystals, because overlapping structures are disordered: 0.9 times in quartz and AlPO4, 1.0 in
SiS2, 1.2 in Cs2O, K2S and spinels, 1.5 in perovskites, 1.7 in Li2O."""

_LARGEST_TARGET = 1.2
"""Upper limit of the target volume over the mean volume of the elements.

Ionic radii are too large for selenides and tellurides: without the limit, the ratio to the volume
of MnTe would be 1.9."""

_MARGIN = 1.1
"""Smallest ratio of the target volume to a limit of volumes that the user sets."""

_CATION_ANION = 0.90
_ANION_ANION = 0.97
_CATION_CATION = 1.40
"""Cation-cation distance in edge-sharing octahedra over cation-anion distance, about sqrt(2)."""
_ALKALI = 2 / 3**0.5
"""The same between alkali ions, in edge-sharing tetrahedra such as in Li2O."""
_NO_ANION = 0.90
_COVALENT = 0.85
"""Overlap distance of a covalent bond over the sum of covalent radii; 0.90 for C-O in CO3(2-)."""
_TRIANGLE = 3**0.5
"""Anion-anion over cation-anion distance in a planar group such as CO3(2-)."""
LONGEST_DISTANCE = 10.0
"""Longest limit of a distance, A; neighbors are 5.3 A apart in cesium."""
POSSIBLE_VOLUMES = (1.0, 1000.0)
"""Smallest and largest volume of a crystal, A^3/atom; 5.7 in diamond, 118 in cesium."""

_RADIUS = 1.5
"""Radius of elements without a tabulated one, A."""

Pair = tuple[str, str]


class GeometryLimits(Settings):
    """Section ``geometry`` of campaign.yaml: limits for generated structures.

    Reference phases are not checked against these limits.

    Examples
    --------
    >>> limits = GeometryLimits()
    >>> limits.target_volume(("Mg", "Mn", "O"))
    13.0
    >>> round(limits.min_distance("O", "H"), 2)
    0.73
    """

    volume_per_atom: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="smallest and largest volume of structures, A^3/atom; null: 0.2 and 1.75 "
        "times the volume of the elements",
    )
    min_distances: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="shortest distances, A, by pair of elements, such as {Mg-O: 1.7}; other pairs: "
        "0.75 times the sum of the covalent radii, 0.6 times with a metal",
    )
    overlap_distances: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="distances below which overlap removal separates atoms, A, by pair of "
        "elements; other pairs: from ionic and covalent radii",
    )
    target_volume_per_atom: PositiveFloat | None = Field(
        None,
        description="volume to which overlap removal scales overlapping cells, A^3/atom; null: "
        "from ionic radii, without anions from the volume of the elements, within "
        "`volume_per_atom`",
    )

    @field_validator("volume_per_atom")
    @classmethod
    def _range_is_ordered(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and limits[0] >= limits[1]:
            raise ValueError(f"range {list(limits)} is empty; write the smallest volume first")
        low, high = POSSIBLE_VOLUMES
        if limits is not None and (limits[0] > high or limits[1] < low):
            raise ValueError(
                f"range {list(limits)} has no volume of a crystal ({low:g} to {high:g} A^3/atom); "
                "correct it"
            )
        return limits

    @model_validator(mode="after")
    def _target_is_in_range(self) -> Self:
        target = self.target_volume_per_atom
        low, high = self.volume_per_atom or POSSIBLE_VOLUMES
        if target is not None and not low <= target <= high:
            raise ValueError(
                f"target_volume_per_atom ({target:g} A^3/atom) must be between {low:g} and "
                f"{high:g}, the limits of the volume; correct it"
            )
        return self

    @field_validator("min_distances", "overlap_distances")
    @classmethod
    def _distances_are_of_pairs(cls, distances: dict[str, float]) -> dict[str, float]:
        seen: set[frozenset[str]] = set()
        for key, distance in distances.items():
            if distance > LONGEST_DISTANCE:
                raise ValueError(
                    f"{key} {distance:g} A is longer than the distance of any neighbors in a "
                    f"crystal; write at most {LONGEST_DISTANCE:g} A"
                )
            pair = frozenset(split_pair(key))
            if pair in seen:
                raise ValueError(f"{key!r} is given twice; remove one")
            seen.add(pair)
        return distances

    def elements(self) -> set[str]:
        """Return the elements that the settings name."""
        keys = [*self.min_distances, *self.overlap_distances]
        return {symbol for key in keys for symbol in split_pair(key)}

    def volume_range(self, composition: Composition) -> tuple[float, float]:
        """Return the smallest and largest volume of a structure, A^3/atom."""
        if self.volume_per_atom is not None:
            return self.volume_per_atom
        amounts = composition.get_el_amt_dict()
        total = sum(n * elemental_volume(symbol) for symbol, n in amounts.items())
        low, high = VOLUME_RANGE
        mean = total / composition.num_atoms
        return low * mean, high * mean

    def min_distance(self, first: str, second: str) -> float:
        """Return the shortest distance of two elements, A."""
        given = _given(self.min_distances, first, second)
        return shortest_distance(first, second) if given is None else given

    def min_distance_table(self, symbols: Sequence[str]) -> NDArray[np.float64]:
        """Return the shortest distances of all pairs of elements (n, n), A."""
        return np.array([[self.min_distance(a, b) for b in symbols] for a in symbols])

    def overlaps_below(self, elements: Iterable[str]) -> dict[Pair, float]:
        """Return the overlap distances of a chemical system, A, for each pair in both orders."""
        distances = dict(overlap_distances(tuple(sorted(set(elements)))))
        for key, distance in self.overlap_distances.items():
            pair = split_pair(key)
            if pair in distances:
                distances[pair] = distances[pair[::-1]] = distance
        return distances

    def for_ions(
        self, elements: Iterable[str], oxidation_states: OxidationRanges
    ) -> GeometryLimits:
        """Return these limits with the distances and volume of the ions of a chemical system.

        Only oxidation states distinguish sulfates, in which S is bonded to O, from oxysulfides, in
        which both are anions. The settings of the user have priority.
        """
        symbols = tuple(sorted(set(elements)))
        anions = find_anions(symbols, oxidation_states)
        if anions == find_anions(symbols):
            return self
        overlaps = overlap_distances(symbols, anions)
        chosen = {
            f"{a}-{b}": overlaps[a, b] if given is None else given
            for a, b in combinations_with_replacement(symbols, 2)
            for given in [_given(self.overlap_distances, a, b)]
        }
        volume = self.target_volume_per_atom or self._estimated_volume(symbols, anions)
        changes = {"overlap_distances": chosen, "target_volume_per_atom": volume}
        return self.model_copy(update=changes)

    def target_volume(self, elements: Iterable[str]) -> float:
        """Return the target volume of overlap removal in a chemical system, A^3/atom."""
        symbols = tuple(sorted(set(elements)))
        return self.target_volume_per_atom or self._estimated_volume(symbols)

    def _estimated_volume(
        self, elements: tuple[str, ...], anions: frozenset[str] | None = None
    ) -> float:
        """Return the typical volume, moved into the range of volumes of the settings."""
        volume = typical_volume(elements, anions)
        if self.volume_per_atom is None:
            return volume
        low, high = self.volume_per_atom
        margin = min(_MARGIN, (high / low) ** 0.5)
        return min(max(volume, margin * low), high / margin)


CHEMISTRY = GeometryLimits()
"""The limits that follow from the elements alone."""


def _given(distances: Mapping[str, float], first: str, second: str) -> float | None:
    """Return the distance of two elements, in either order, in the settings, or None."""
    return distances.get(f"{first}-{second}", distances.get(f"{second}-{first}"))


def split_pair(key: str) -> Pair:
    """Split a pair of elements such as ``Mg-O``; a ValueError if it is none."""
    first, dash, second = key.partition("-")
    if not dash or not all(Element.is_valid_symbol(symbol) for symbol in (first, second)):
        raise ValueError(f"{key!r} is not a pair of elements; write it like Mg-O")
    return first, second


@cache
def shortest_distance(first: str, second: str) -> float:
    """Return the shortest distance of two elements by their covalent radii, A."""
    with_metal = _is_metal(first) or _is_metal(second)
    radii = _covalent_radius(first) + _covalent_radius(second)
    return (SHORTEST_WITH_METAL if with_metal else SHORTEST) * radii


@cache
def elemental_volume(symbol: str) -> float:
    """Return the volume of an element at ambient pressure, A^3/atom.

    Elements without a tabulated volume (At, Fr, and those beyond Es) have that of a simple cubic
    metal with its covalent radius.
    """
    tabulated = Element(symbol).data.get("Molar volume")  # cm^3/mol
    if tabulated is None:
        return float((2 * _covalent_radius(symbol)) ** 3)
    return float(tabulated) * (centi / angstrom) ** 3 / Avogadro


@cache
def typical_volume(elements: tuple[str, ...], anions: frozenset[str] | None = None) -> float:
    """Return the volume of a loosely packed structure of a chemical system, A^3/atom.

    For ions it is proportional to the mean volume of the cations plus that of the anions, with an
    upper limit: 13 for Mg-Mn-O, 11 for Si-O, 23 for Mn-S. Systems without cations or without anions
    have the mean volume of the elements. It is rounded to 1 A^3, since the estimate is no better.
    ``anions`` are by default those of :func:`gan_htvs.core.chemical_system.find_anions`.
    """
    anions = find_anions(elements) if anions is None else anions
    cations = [symbol for symbol in elements if symbol not in anions]
    volume = np.mean([elemental_volume(symbol) for symbol in elements])
    if not anions or not cations:
        return float(max(np.round(volume), 1))
    cation_cube = np.mean([_ionic_radius(symbol, anion=False) ** 3 for symbol in cations])
    anion_cube = np.mean([_ionic_radius(symbol, anion=True) ** 3 for symbol in sorted(anions)])
    return float(np.round(min(_TARGET * (cation_cube + anion_cube), _LARGEST_TARGET * volume)))


@cache
def overlap_distances(
    elements: tuple[str, ...], anions: frozenset[str] | None = None
) -> Mapping[Pair, float]:
    """Compute the distances below which the atoms of a chemical system overlap, A.

    For Mg-Mn-O: cation-O 1.91 to 1.92, O-O 2.44, cation-cation 2.67 to 2.69. Pairs of an anion with
    another nonmetal or metalloid, and those with hydrogen, are covalent bonds: H-O 0.82, C-O 1.21.
    ``anions`` are by default those of :func:`gan_htvs.core.chemical_system.find_anions`.

    Returns
    -------
    One distance for each pair of symbols, in both orders.
    """
    anions = find_anions(elements) if anions is None else anions
    distances: dict[Pair, float] = {}
    for pair in combinations_with_replacement(elements, 2):
        distance = _overlap_distance(pair, elements, anions)
        distances[pair] = distances[pair[::-1]] = distance
    return distances


def _overlap_distance(pair: Pair, elements: tuple[str, ...], anions: frozenset[str]) -> float:
    n_anions = sum(symbol in anions for symbol in pair)
    ionic = sum(_ionic_radius(symbol, anion=symbol in anions) for symbol in pair)
    if n_anions == len(pair):
        planar = [
            _TRIANGLE * _covalent_distance(symbol, anion)
            for symbol in elements
            for anion in pair
            if _is_covalent(symbol) and symbol not in anions
        ]
        return min([_ANION_ANION * ionic, *planar])
    if "H" in pair or (n_anions == 1 and all(map(_is_covalent, pair))):
        return _covalent_distance(*pair)
    if not anions:
        return _NO_ANION * sum(float(Element(s).atomic_radius or _RADIUS) for s in pair)
    if n_anions == 1:
        return min(_CATION_ANION * ionic, sum(map(_covalent_radius, pair)))
    smallest = min(_ionic_radius(symbol, anion=True) for symbol in anions)
    shared_edge = _ALKALI if all(Element(s).is_alkali for s in pair) else _CATION_CATION
    return shared_edge * _CATION_ANION * (ionic / 2 + smallest)


def _is_covalent(symbol: str) -> bool:
    """Return whether an element forms covalent groups with anions; hydrogen is bound to one."""
    return symbol != "H" and not _is_metal(symbol)


def _is_metal(symbol: str) -> bool:
    return bool(Element(symbol).is_metal)


def _covalent_distance(first: str, second: str) -> float:
    return _COVALENT * (_covalent_radius(first) + _covalent_radius(second))


def _covalent_radius(symbol: str) -> float:
    number = Element(symbol).Z
    return float(covalent_radii[number]) if number < len(covalent_radii) else _RADIUS


def _ionic_radius(symbol: str, *, anion: bool) -> float:
    element = Element(symbol)
    ionic = element.average_anionic_radius if anion else element.average_cationic_radius
    return float(ionic) or float(element.atomic_radius or _RADIUS)
