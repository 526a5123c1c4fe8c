"""Structures, references and campaigns for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import (
    Ending,
    Origin,
    Proposal,
    RelaxationResult,
    RelaxedStructure,
)
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.reference_sources.fetched_file import (
    FetchedPhases,
    Provenance,
    write_fetched,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jobflow import Flow, Job

    from gan_htvs.thermodynamics.references import ReferencePhase

MG_MN_O = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
OXIDATION_STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}

CHGNET = "CHGNet-0.3.0"
PBE_U = "PBE(+U)+MP2020"
MG_O = {"Mg": -1.606, "O2": -4.948, "MgO": -6.32}
"""Energies of CHGNet, eV/atom."""


def crystal(space_group: str, lattice: Lattice, **sites: list[float]) -> Structure:
    """Build a primitive cell with one orbit of each element."""
    conventional = Structure.from_spacegroup(
        space_group, lattice, list(sites), list(sites.values())
    )
    return conventional.get_primitive_structure()


def brucite() -> Structure:
    """Build Mg(OH)2, O-H 0.958 A."""
    third, two = 1 / 3, 2 / 3
    lattice = Lattice.hexagonal(3.142, 4.766)
    sites = {"Mg": [0, 0, 0], "O": [third, two, 0.2203], "H": [third, two, 0.4213]}
    return crystal("P-3m1", lattice, **sites)


def rocksalt_cell(cation: str = "Mg", length: float = 4.21, anion: str = "O") -> Structure:
    """Build the conventional cell of rocksalt, with 4 cations and then 4 anions."""
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def rocksalt(cation: str = "Mg", length: float = 4.3, anion: str = "O") -> Structure:
    """Build the primitive cell of rocksalt."""
    return rocksalt_cell(cation, length, anion).get_primitive_structure()


def cesium_chloride(cation: str = "Mg", length: float = 2.65) -> Structure:
    """Build the cubic cell of cesium chloride, which is far above the hull of Mg-O."""
    return Structure(Lattice.cubic(length), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def layered(cation: str = "Mn", length: float = 4.3) -> Structure:
    """Make rocksalt with Mg and another cation in layers along c."""
    return Structure(
        Lattice.tetragonal(length / 2**0.5, length),
        ["Mg", cation, "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]],
    )


def spinel(tetrahedral: str = "Mg", octahedral: str = "Mn") -> Structure:
    """Make the cubic cell of spinel."""
    return Structure.from_spacegroup(
        "Fd-3m",
        Lattice.cubic(8.4),
        [tetrahedral, octahedral, "O"],
        [[0, 0, 0], [0.625, 0.625, 0.625], [0.3875, 0.3875, 0.3875]],
    )


def references(level: str = CHGNET, energies: Mapping[str, float] = MG_O) -> ReferenceSet:
    """Build a reference set from energies by formula, eV/atom."""
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=name, formula=name, energy_per_atom=energy, level_of_theory=level)
            for name, energy in energies.items()
        )
    )


def proposal(name: str, structure: Structure, **origin: Any) -> Proposal:
    """Build a proposal of the random proposer."""
    settings = {"proposer": "random", "requested_composition": "MgO", "index": 0} | origin
    return Proposal(candidate_id=name, structure=structure, origin=Origin(**settings))


def survivor(name: str, structure: Structure, relaxed: RelaxedStructure) -> Proposal:
    """Build a proposal that was relaxed by the prescreen."""
    relaxation = RelaxationResult(ending=Ending.CONVERGED, relaxed=relaxed)
    return proposal(name, structure).model_copy(update={"relaxation": relaxation})


def relaxed(
    structure: Structure | None = None,
    energy_per_atom: float = -6.32,
    level: str = CHGNET,
    **fields: Any,
) -> RelaxedStructure:
    """Build the result of a converged relaxation."""
    return RelaxedStructure(
        structure=structure or rocksalt(),
        energy_per_atom=energy_per_atom,
        level_of_theory=level,
        converged=True,
        **fields,
    )


def mg_o(**changes: Any) -> Campaign:
    """Build a campaign of MgO without a generator and without band gaps."""
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


def require_potential(name: str) -> None:
    """Skip a test if the package of a potential is not installed."""
    pytest.importorskip({"chgnet": "chgnet", "sevennet-0": "sevenn"}[name])


def memory_store() -> JobStore:
    """Create a connected JobStore in memory."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def output_of(work: Flow | Job, store: JobStore | None = None) -> Any:
    """Run a job or flow in this process, by default with a store in memory; return its output."""
    store = store or memory_store()
    run_locally(work, store=store, log=False, raise_immediately=True)
    return work.output.resolve(store)


def write_fetched_phases(
    path: Path, phases: Iterable[ReferencePhase], elements: Iterable[str]
) -> None:
    """Write reference phases to a file as if they had been fetched from the Materials Project."""
    provenance = Provenance(
        source="materials_project",
        provider="materials_project",
        elements=tuple(sorted(elements)),
        max_energy_above_hull=0.05,
        n_entries=len(list(phases)),
    )
    write_fetched(path, FetchedPhases(list(phases), provenance))


LOOSE_STAGES = (
    {"name": "synthesizable", "property": "energy_above_hull", "max": 9},
    {"name": "pourbaix_metastable", "property": "pourbaix_decomposition_energy", "max": 9},
    {"name": "photoanode", "property": "band_gap", "min": 0.1, "max": 9},
)
"""Stages that all stable and metastable candidates pass."""
