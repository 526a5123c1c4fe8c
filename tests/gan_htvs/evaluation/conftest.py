"""Proposer and relaxations with fixed results, whose measures are easy to count."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.chemical_system import ChemicalSystem, Counts
from gan_htvs.core.stages import ProposerName
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.evaluation.evaluation_documents import Evaluation
from gan_htvs.evaluation.sample_sets import SampleSettings, draw_samples
from gan_htvs.evaluation.structure_evaluation import EvaluationSettings, evaluate
from gan_htvs.proposers.baselines import RandomCells
from gan_htvs.proposers.proposer import Proposer
from gan_htvs.structures.geometry_limits import CHEMISTRY
from gan_htvs.structures.point_cloud import encode
from gan_htvs.structures.validity import RejectionReason
from tests.helpers import references

MG_O = ChemicalSystem(caps={"Mg": 2, "O": 2})
STATES = {"Mg": (2.0, 2.0), "O": (-2.0, -2.0)}
LEVEL = "test"
MGO = -6.0
"""Energy of the hull at MgO, eV/atom."""
ENERGIES = references(LEVEL, {"Mg": -1.5, "O2": -4.9, "MgO": MGO})

ROCKSALT = Structure(Lattice.rhombohedral(2.98, 60), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
ZINCBLENDE = Structure(Lattice.rhombohedral(3.25, 60), ["Mg", "O"], [[0, 0, 0], [0.25] * 3])
CSCL = Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
WURTZITE = Structure(
    Lattice.hexagonal(3.3, 5.1),
    ["Mg", "Mg", "O", "O"],
    [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.385], [2 / 3, 1 / 3, 0.885]],
)
LEAD_OXIDE = Structure(
    Lattice.tetragonal(3.6, 4.6),
    ["Mg", "Mg", "O", "O"],
    [[0, 0.5, 0.24], [0.5, 0, 0.76], [0, 0, 0], [0.5, 0.5, 0]],
)
HOLE = Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.1, 0, 0]])


class FixedProposer(Proposer):
    """Propose fixed two-atom cells, two of which fail to decode, and random four-atom cells."""

    name = ProposerName.RANDOM
    scales = shrinks_loose = True

    def raw_samples(self, counts, rng):
        if counts == (1, 1):
            yield RejectionReason.WRONG_COMPOSITION
            yield ROCKSALT
            yield CSCL
            yield RejectionReason.WRONG_ATOM_ROWS
            yield ROCKSALT.copy()
            yield ZINCBLENDE
        else:
            yield from islice(RandomCells(MG_O).raw_samples(counts, rng), 50)


class FixedRelaxations:
    """Return the given results in order."""

    settings = SimpleNamespace(level_of_theory=LEVEL)
    geometry = CHEMISTRY

    def __init__(self, results):
        self.results = results

    def relax(self, structures, *, on_progress=None):
        if on_progress:
            on_progress(len(structures), len(structures))
        assert len(structures) == len(self.results)
        return self.results

    def references(self, phases, *, on_progress=None):
        return ENERGIES


def relaxed(structure: Structure, above_hull: float, **changes) -> RelaxedStructure:
    fields = {
        "structure": structure,
        "energy_per_atom": MGO + above_hull,
        "level_of_theory": LEVEL,
        "converged": True,
        "n_steps": 10,
        "cpu_seconds": 36.0,
    }
    return RelaxedStructure(**(fields | changes))


RESULTS = [
    relaxed(ROCKSALT, 0.0),  # stable, a reference phase
    relaxed(CSCL, 0.05),  # S.U.N. at 0.08, and held out of training
    relaxed(ZINCBLENDE, 0.03),  # stable, a training structure
    relaxed(WURTZITE.copy().scale_lattice(60), -0.01),  # duplicate of the next one
    relaxed(WURTZITE, -0.02),  # S.U.N. on the hull
    relaxed(HOLE, -3.0),
    relaxed(LEAD_OXIDE, -0.05, converged=False),
    None,
    relaxed(LEAD_OXIDE, -0.5),  # implausible
    relaxed(LEAD_OXIDE, 0.15),  # S.U.N. at 0.2
]
"""Results of three two-atom cells and seven four-atom cells."""


def dataset_of(*structures: Structure) -> Dataset:
    return Dataset(
        system=MG_O,
        images=encode(structures, MG_O),
        counts=np.array([MG_O.counts(structure) for structure in structures]),
        labels=tuple(structure.formula for structure in structures),
    )


def draw(*compositions: Counts, n_samples: int = 8, proposer: Proposer | None = None, **changes):
    """Sample compositions of Mg-O."""
    return draw_samples(
        proposer or FixedProposer(MG_O),
        compositions,
        oxidation_states=STATES,
        settings=SampleSettings(n_samples=n_samples, seed=3, **changes),
    )


def evaluate_samples(*compositions: Counts) -> Evaluation:
    """Evaluate samples without relaxing them."""
    return evaluate(
        draw(*compositions),
        training=[ZINCBLENDE],
        relaxations=FixedRelaxations([]),
        settings=EvaluationSettings(n_relaxed=0),
    )


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """Evaluate both compositions, with relaxations."""
    return evaluate(
        draw((1, 1), (2, 2)),
        training=[ZINCBLENDE],
        held_out=[CSCL, LEAD_OXIDE],
        relaxations=FixedRelaxations(RESULTS),
        settings=EvaluationSettings(n_relaxed=7),
    )
