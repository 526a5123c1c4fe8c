"""Structures, references and campaigns that tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import JobStore
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import Origin, Proposal, RelaxedStructure
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

if TYPE_CHECKING:
    from collections.abc import Mapping

CHGNET = "CHGNet-0.3.0"
MG_O = {"Mg": -1.606, "O2": -4.948, "MgO": -6.32}
"""Energies of CHGNet, eV/atom."""


def rocksalt(cation: str = "Mg", length: float = 4.3, anion: str = "O") -> Structure:
    """Make the primitive cell of rocksalt."""
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def cesium_chloride(cation: str = "Mg", length: float = 2.65) -> Structure:
    """Make the cubic cell of cesium chloride, which lies high above the hull of Mg-O."""
    return Structure(Lattice.cubic(length), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def references(level: str = CHGNET, energies: Mapping[str, float] = MG_O) -> ReferenceSet:
    """Make a reference set from energies by formula, eV/atom."""
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=name, formula=name, energy_per_atom=energy, level_of_theory=level)
            for name, energy in energies.items()
        )
    )


def proposal(name: str, structure: Structure, **origin: Any) -> Proposal:
    """Make a proposal of the random proposer."""
    settings = {"proposer": "random", "requested_composition": "MgO", "index": 0} | origin
    return Proposal(candidate_id=name, structure=structure, origin=Origin(**settings))


def relaxed(
    structure: Structure | None = None, energy_per_atom: float = -6.32, level: str = CHGNET
) -> RelaxedStructure:
    """Make the result of a converged relaxation."""
    return RelaxedStructure(
        structure=structure or rocksalt(),
        energy_per_atom=energy_per_atom,
        level_of_theory=level,
        converged=True,
    )


def mg_o(**changes: Any) -> Campaign:
    """Make a campaign of magnesia that needs no generator and computes no gaps."""
    settings = {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 4, "O": 4}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "compositions": ["Mg2O2"],
        "sampling": {"proposers": ["random"], "structures_per_composition": 4},
        "prescreen": {"confirm": "none"},
        "engines": {"band_gap": {"name": "none"}},
    }
    return Campaign.model_validate(settings | changes)


def memory_store() -> JobStore:
    """Make a connected JobStore in memory."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store
