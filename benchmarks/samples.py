"""The samples that benchmarks of the prescreen share: all proposers, many compositions."""

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
MOST_ATOMS = 22
N_COMPOSITIONS = 31
"""As many as the published study searched."""


@dataclass(frozen=True)
class Sampled:
    """One unique, valid structure, with its raw sample."""

    proposer: str
    composition: str
    raw: Structure
    declashed: Structure
    displacement: float


def compositions() -> list[tuple[int, ...]]:
    """Spread 31 compositions evenly over all charge-balanced ones of up to 22 atoms."""
    allowed = list(SYSTEM.compositions(OXIDATION_STATES, MOST_ATOMS))
    step = len(allowed) / N_COMPOSITIONS
    return [allowed[int(i * step)] for i in range(N_COMPOSITIONS)]


def samples(name: ProposerName, n: int, *, seed: int) -> list[Sampled]:
    """Sample ``n`` structures of a proposer, as evenly over the compositions as it goes."""
    trained = load(SHIPPED_GENERATOR, system=SYSTEM) if name is ProposerName.GAN else None
    proposer = make_proposer(name, SYSTEM, OXIDATION_STATES, trained)
    targets = compositions()
    each = -(-n // len(targets))
    by_composition = [
        [
            Sampled(name, SYSTEM.formula(counts), one.raw, one.structure, one.max_displacement)
            for one in sample(proposer, counts, each, seed=seed).samples
        ]
        for counts in targets[:n]
    ]
    in_turns = [found[i] for i in range(each) for found in by_composition if i < len(found)]
    return in_turns[:n]
