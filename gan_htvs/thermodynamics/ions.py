"""Free energies of aqueous ions, and of the reference solids to which they are tied."""

from __future__ import annotations

import re
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pymatgen.core import Composition, DummySpecies
from pymatgen.core.ion import Ion

from gan_htvs.core.document import Document
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import checked_hash, hash_of_path
from gan_htvs.core.settings import first_problem, read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.core.pourbaix_stability import PourbaixSettings

ION_SETS = Path(__file__).with_name("aqueous_ions")
"""Folder of the tables of the package, one file for each version."""

SOLVENT = frozenset({"H", "O"})
"""Elements of the aqueous solution, which is a reservoir of them."""

_CHARGE = re.compile(r"(\[(\d*[+-]|[+-]\d*)\]|\(aq\))$")
"""Charge of an ion. Without brackets, pymatgen reads Ca2+ as two atoms with the charge 1."""

WaterFreeForm = tuple[tuple[tuple[str, float], ...], float, float]


class IonReference(Document):
    """Experimental free energy of formation at 298.15 K."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str = Field(description="formula of the ion with its charge or (aq), or of the solid")
    free_energy: float = Field(description="free energy of formation, kJ/mol")
    source: str = Field(description="compilation or publication of the free energy")

    @cached_property
    def ion(self) -> Ion:
        """The ion; a molecule or solid has the charge 0."""
        return Ion.from_formula(self.formula)

    @model_validator(mode="after")
    def _has_valid_formula(self) -> IonReference:
        try:
            species = self.ion.composition.elements
        except ValueError:
            species = []
        # pymatgen reads other symbols, such as Xx, as dummies.
        if not species or any(isinstance(one, DummySpecies) for one in species):
            raise ValueError(f"{self.formula!r} is not a formula; write it like Mn[2+] or MnO2")
        return self


class IonSet(Document):
    """Versioned table of aqueous ions and their reference solids.

    Raises
    ------
    ValueError
        If a formula is invalid, an element of an ion has no reference solid, a reference solid
        lacks its element or contains H, or an ion has neither a charge nor ``(aq)``, is given
        twice or differs from another only by water.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(min_length=1, description="name of the table, stored with every result")
    reference_solids: dict[str, IonReference] = Field(description="element -> solid")
    ions: tuple[IonReference, ...]
    hydroxides: tuple[IonReference, ...] = Field((), description="solids with H")

    @model_validator(mode="after")
    def _is_consistent(self) -> IonSet:
        for symbol, solid in self.reference_solids.items():
            elements = {element.symbol for element in Composition(solid.formula).elements}
            if symbol not in elements or "H" in elements:
                raise ValueError(
                    f"reference_solids.{symbol}: {solid.formula!r} must contain {symbol} and no H"
                )
        forms: dict[WaterFreeForm, str] = {}
        for reference in (*self.ions, *self.hydroxides):
            solutes = set(_amounts(reference)) - SOLVENT
            if not solutes:
                raise ValueError(f"{reference.formula!r} has no element besides H and O")
            if missing := sorted(solutes - set(self.reference_solids)):
                raise ValueError(
                    f"{reference.formula!r}: reference_solids has no solid of {', '.join(missing)}"
                )
        for reference in self.ions:
            form, formula = _water_free_form(reference), reference.formula
            if not _CHARGE.search(formula):
                raise ValueError(
                    f"{formula!r} has no charge in brackets at its end; write it like Mn[2+], or "
                    "like MnO(aq) if it is neutral"
                )
            if form in forms:
                raise ValueError(
                    f"{formula!r} is given twice; remove one"
                    if formula == forms[form]
                    else f"{formula!r} and {forms[form]!r} differ only by water; keep one of them"
                )
            forms[form] = formula
        return self


def shipped_ion_sets() -> list[str]:
    """Return the versions of the tables of the package."""
    return sorted(path.stem for path in ION_SETS.glob("*.yaml"))


def ion_set_of(settings: PourbaixSettings) -> IonSet:
    """Return the table of ions of a campaign: ``ion_file``, or the shipped table ``ion_set``.

    Raises
    ------
    UserError
        If this version of the package does not have the table, or the file cannot be read, is
        invalid, has the version of a shipped table or does not have the recorded hash.
    """
    shipped = shipped_ion_sets()
    if settings.ion_file is not None:
        table = _read(settings.ion_file, settings.sha256)
        if table.version in shipped:
            raise UserError(
                f"{settings.ion_file}: version: {table.version!r} is a table of the package; "
                "choose another version, because it is stored with every result."
            )
        return table
    if settings.ion_set not in shipped:
        raise UserError(
            f"pourbaix.ion_set: {settings.ion_set!r} is not a table of this version of gan-htvs, "
            f"which has {', '.join(shipped)}; name one of them in a new campaign, or install the "
            "version that the campaign was started with."
        )
    return _read(ION_SETS / f"{settings.ion_set}.yaml", None)


def portable_settings(settings: PourbaixSettings) -> PourbaixSettings:
    """Return settings with the name and hash of ``ion_file`` instead of its path.

    Results are stored with them, because paths differ between machines.
    """
    if (file := settings.ion_file) is None:
        return settings
    sha256 = settings.sha256 or hash_of_path(file)
    return settings.model_copy(update={"ion_file": Path(file.name), "sha256": sha256})


def required_reference_solids(elements: Iterable[str], ion_set: IonSet) -> tuple[str, ...]:
    """Return the phases that a reference set needs for the ions of a chemical system.

    Parameters
    ----------
    elements
        Elements of the chemical system. Elements without ions need nothing.
    ion_set
        Table of ions.

    Returns
    -------
    Reduced formulas of the reference solid of each element, and of the elemental phases of the
    elements that only the reference solids have: F has the reference solid NaF, whose formation
    energy needs Na.
    """
    symbols = set(elements)
    needed = (_needed_phases(s, symbols, ion_set) for s in sorted(_with_ions(symbols, ion_set)))
    return tuple(dict.fromkeys(chain.from_iterable(needed)))


def unavailable_reason(
    elements: Iterable[str], phases: Iterable[str], ion_set: IonSet
) -> str | None:
    """Return why compositions of these elements have no Pourbaix stability; None if they have one.

    Parameters
    ----------
    elements
        Elements of the compositions.
    phases
        Formulas of the reference phases.
    ion_set
        Table of ions.
    """
    symbols = set(elements)
    if not symbols - SOLVENT:
        return (
            "Pourbaix stability is not defined without an element besides H and O; remove this "
            "composition"
        )
    if "H" in symbols:
        return (
            "Pourbaix stability of solids with H is not implemented; remove H from the chemical "
            "system"
        )
    if unknown := sorted(symbols - SOLVENT - _with_ions(symbols, ion_set)):
        return (
            f"Pourbaix stability is not defined: the table {ion_set.version} has no aqueous ions "
            f"of {', '.join(unknown)}; name a table with these ions in pourbaix.ion_file"
        )
    available = {Composition(formula).reduced_formula for formula in phases}
    required = required_reference_solids(symbols, ion_set)
    if missing := [formula for formula in required if formula not in available]:
        return (
            f"the reference phases lack {', '.join(missing)}, from which the aqueous ions get "
            "their energies; add them"
        )
    return None


def _with_ions(symbols: set[str], ion_set: IonSet) -> set[str]:
    """Return the elements of a chemical system that have ions without foreign elements."""
    solutes = (set(_amounts(ion)) - SOLVENT for ion in ion_set.ions)
    return set(chain.from_iterable(elements for elements in solutes if elements <= symbols))


def _needed_phases(symbol: str, system: set[str], ion_set: IonSet) -> list[str]:
    """Return the reference solid of an element and the elements that it adds to a system."""
    solid = Composition(ion_set.reference_solids[symbol].formula)
    foreign = sorted({element.symbol for element in solid.elements} - system)
    return [phase.reduced_formula for phase in (solid, *map(Composition, foreign))]


@cache
def _read(path: Path, sha256: str | None) -> IonSet:
    """Read and validate a table of ions.

    Raises
    ------
    UserError
        If the file cannot be read, is invalid or has another hash.
    """
    document = read_mapping(path, "docs/stability.md describes files of aqueous ions")
    checked_hash(path, sha256, "pourbaix.ion_file")
    try:
        return IonSet.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}.") from error


def _amounts(reference: IonReference) -> dict[str, float]:
    return reference.ion.composition.get_el_amt_dict()


def _water_free_form(reference: IonReference) -> WaterFreeForm:
    """Return what species that differ only by water have in common.

    These are the amounts of the elements besides H and O, O after removing H as water, and the
    charge, all per atom of the elements besides H and O.
    """
    amounts = _amounts(reference)
    solutes = {symbol: n for symbol, n in sorted(amounts.items()) if symbol not in SOLVENT}
    n_atoms = sum(solutes.values())
    oxygen = amounts.get("O", 0) - amounts.get("H", 0) / 2
    shares = tuple((symbol, round(n / n_atoms, 6)) for symbol, n in solutes.items())
    return shares, round(oxygen / n_atoms, 6), round(reference.ion.charge / n_atoms, 6)
