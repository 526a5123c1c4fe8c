"""Samples for the benchmarks of the prescreen: all proposers, many compositions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_htvs.campaign.model import SHIPPED_GENERATOR
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import ProposerName
from gan_htvs.generator.checkpoint import load
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.proposers.sampling import sample

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
OXIDATION_STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}
MAX_ATOMS = 22
N_COMPOSITIONS = 31
"""Number of compositions of the published search."""


@dataclass(frozen=True)
class Sampled:
    """One unique, valid structure, with its raw sample."""

    proposer: str
    composition: str
    raw: Structure
    declashed: Structure
    displacement: float


def compositions() -> list[tuple[int, ...]]:
    """Return 31 evenly spaced charge-balanced compositions of up to 22 atoms."""
    allowed = list(SYSTEM.compositions(OXIDATION_STATES, MAX_ATOMS))
    step = len(allowed) / N_COMPOSITIONS
    return [allowed[int(i * step)] for i in range(N_COMPOSITIONS)]


def samples(name: ProposerName, n: int, *, seed: int) -> list[Sampled]:
    """Sample ``n`` structures of a proposer, evenly distributed over the compositions."""
    trained = load(SHIPPED_GENERATOR, system=SYSTEM) if name is ProposerName.GAN else None
    proposer = make_proposer(name, SYSTEM, OXIDATION_STATES, trained)
    targets = compositions()
    n_each = -(-n // len(targets))
    by_composition = [
        [
            Sampled(name, SYSTEM.formula(counts), one.raw, one.structure, one.max_displacement)
            for one in sample(proposer, counts, n_each, seed=seed).samples
        ]
        for counts in targets[:n]
    ]
    in_turns = [
        structures[i] for i in range(n_each) for structures in by_composition if i < len(structures)
    ]
    return in_turns[:n]
