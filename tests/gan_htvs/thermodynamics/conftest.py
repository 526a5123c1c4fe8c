"""Reference sets: energies of the literature, and relaxations with CHGNet."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.references import reference_phases
from tests.helpers import references

if TYPE_CHECKING:
    from collections.abc import Mapping

# Formation energies, eV/atom: CHGNet 0.3.0, with the energy of O2 of the potential.
CHGNET_FORMATION_ENERGIES = {
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

# Phases of the published tables; other polymorphs are omitted to save time.
RELAXED = (
    "Mg hcp",
    "Mn alpha",
    "MgO periclase",
    "MnO manganosite",
    "Mn3O4 hausmannite",
    "Mn2O3 bixbyite",
    "MnO2 beta (pyrolusite)",
    "MnO2 alpha (hollandite)",
    "MgMn2O4 tetragonal",
    "MgMnO3 ilmenite",
    "Mg2MnO4 inverse spinel (P4_122)",
    "Mg6MnO8",
    "Mg2Mn3O8",
)


def formation_energy_set(energies: Mapping[str, float], level: str = "test") -> ReferenceSet:
    """Build a reference set in which the energies of elements are zero."""
    elements = dict.fromkeys(("Mg", "Mn", "O2"), 0.0)
    return references(level, elements | dict(energies))


@pytest.fixture(scope="session")
def chgnet_column() -> ReferenceSet:
    """Published CHGNet formation energies."""
    return formation_energy_set(CHGNET_FORMATION_ENERGIES)


@pytest.fixture(scope="session")
def relaxed() -> ReferenceSet:
    """Reference phases, relaxed with CHGNet; O2 is pinned."""
    pytest.importorskip("chgnet", reason="CHGNet is not installed")
    from chgnet.model import StructOptimizer

    optimizer = StructOptimizer(use_device="cpu")
    entries = []
    for phase in reference_phases(("Mg", "Mn", "O")):
        energy = phase.pinned_energy_per_atom
        if energy is None:
            if phase.name not in RELAXED:
                continue
            with warnings.catch_warnings():
                # scipy's matrix logarithm warns at every step of every cell relaxation.
                warnings.filterwarnings("ignore", message="logm result may be inaccurate")
                result = optimizer.relax(phase.structure, fmax=0.05, steps=300, verbose=False)
            energy = float(result["trajectory"].energies[-1]) / len(phase.structure)
        entries.append(
            ReferenceEnergy(
                name=phase.name,
                formula=phase.formula,
                energy_per_atom=energy,
                level_of_theory="CHGNet 0.3.0",
                source=phase.source,
            )
        )
    return ReferenceSet(entries=tuple(entries))


@pytest.fixture(scope="session")
def ion_table() -> Path:
    """Published table of ions, which is not in the repository."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("GAN_HTVS_SHARED", default)) / "aqueous_ions.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path
