from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import ProposerName
from gan_htvs.proposers.baselines import RandomCells
from gan_htvs.proposers.sampling import BestOf, sample
from gan_htvs.structures.matching import StructureIndex
from gan_htvs.structures.validity import RejectionReason
from tests.helpers import cesium_chloride, rocksalt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.proposers.proposer import RawSample

MG_O = ChemicalSystem(caps={"Mg": 4, "O": 4})
ROCKSALT = rocksalt()


class FixedProposer(RandomCells):
    """Proposes a fixed list of raw samples."""

    name = ProposerName.SUBSTITUTION
    scales = shrinks_loose = False

    def __init__(self, samples: list[RawSample]) -> None:
        super().__init__(MG_O)
        self.samples = samples

    def raw_samples(self, counts: tuple[int, ...], rng: np.random.Generator) -> Iterator[RawSample]:
        yield from self.samples


def test_raw_samples_are_counted_by_reason_until_exhausted():
    reason = RejectionReason.WRONG_ATOM_ROWS
    result = sample(FixedProposer([ROCKSALT, reason, ROCKSALT.copy()]), (1, 1), 3, seed=0)
    assert result.reasons == {reason: 1, RejectionReason.DUPLICATE: 1}
    assert (result.tried, result.exhausted) == (3, True)
    assert result.acceptance == pytest.approx(1 / 3)
    (sampled,) = result.samples
    assert (sampled.index, sampled.structure, sampled.raw) == (0, ROCKSALT, ROCKSALT)
    assert (sampled.max_displacement, sampled.is_remade) == (0, False)


def test_sampling_stops_at_the_requested_number():
    proposals = [RejectionReason.WRONG_COMPOSITION] * 3 + [ROCKSALT] * 5
    result = sample(FixedProposer(proposals), (1, 1), 1, seed=0)
    assert (result.tried, len(result.samples), result.exhausted) == (4, 1, False)


def test_sampling_stops_at_the_bound_on_tries():
    endless = [RejectionReason.WRONG_COMPOSITION] * 1000
    result = sample(FixedProposer(endless), (1, 1), 2, seed=0, max_tries_per_structure=10)
    assert (result.tried, result.samples, result.exhausted) == (20, [], False)


def test_loose_cells_are_shrunk_if_volumes_are_made_up():
    loose = ROCKSALT.copy()
    loose.scale_lattice(2 * ROCKSALT.volume)
    proposer = FixedProposer([loose])
    assert sample(proposer, (1, 1), 1, seed=0).structures[0].volume == pytest.approx(loose.volume)
    proposer.shrinks_loose = True
    assert sample(proposer, (1, 1), 1, seed=0).structures[0].volume == pytest.approx(26)


def test_compositions_do_not_share_their_random_numbers():
    results = [sample(RandomCells(MG_O), counts, 1, seed=0) for counts in ((2, 2), (2, 4))]
    angles = [result.samples[0].raw.lattice.angles for result in results]
    assert not np.allclose(*angles)


ZINCBLENDE = Structure.from_spacegroup(
    "F-43m", Lattice.cubic(4.6), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]
).get_primitive_structure()


def test_only_the_structure_of_lowest_energy_of_each_group_is_kept():
    proposals = [ROCKSALT, cesium_chloride(), ROCKSALT, ZINCBLENDE]
    best_of = BestOf(2, lambda group: np.array([cell.lattice.gamma for cell in group]))
    result = sample(FixedProposer(proposals), (1, 1), 3, seed=0, best_of=best_of)
    assert [one.index for one in result.samples] == [0, 3]  # the last group is incomplete
    assert result.reasons == {RejectionReason.HIGHER_ENERGY: 1, RejectionReason.DUPLICATE: 1}
    assert (result.tried, result.exhausted) == (4, True)
    first = sample(FixedProposer(proposals), (1, 1), 1, seed=0, best_of=best_of)
    assert [one.index for one in first.samples] == [0]


def test_an_incomplete_group_is_not_kept_if_tries_run_out():
    best_of = BestOf(3, lambda group: np.zeros(len(group)))
    proposals = [ROCKSALT, cesium_chloride(), ZINCBLENDE]
    result = sample(
        FixedProposer(proposals), (1, 1), 1, seed=0, best_of=best_of, max_tries_per_structure=2
    )
    assert (result.samples, result.tried, result.exhausted) == ([], 2, False)
    assert result.reasons == {RejectionReason.INCOMPLETE_GROUP: 2}


def test_known_crystals_are_not_sampled_again():
    known = StructureIndex([ROCKSALT])
    result = sample(FixedProposer([ROCKSALT, ZINCBLENDE]), (1, 1), 2, seed=0, known=known)
    assert [one.index for one in result.samples] == [1]
    assert result.reasons == {RejectionReason.KNOWN: 1}
