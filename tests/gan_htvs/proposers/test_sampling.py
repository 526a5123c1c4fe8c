from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import ProposerName
from gan_htvs.proposers.baselines import RandomCells
from gan_htvs.proposers.sampling import sample
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.proposers.proposer import RawSample

MG_O = ChemicalSystem(caps={"Mg": 4, "O": 4})
ROCK_SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


class Listed(RandomCells):
    """Proposes what it was given."""

    name = ProposerName.SUBSTITUTION
    volume_per_atom = None

    def __init__(self, samples: list[RawSample]) -> None:
        super().__init__(MG_O)
        self.samples = samples

    def raw_samples(self, counts: tuple[int, ...], rng: np.random.Generator) -> Iterator[RawSample]:
        yield from self.samples


def test_every_raw_sample_is_accounted_for_and_the_end_is_told():
    refused = RejectionReason.WRONG_ATOM_ROWS
    result = sample(Listed([ROCK_SALT, refused, ROCK_SALT.copy()]), (1, 1), 3, seed=0)
    assert result.reasons == {refused: 1, RejectionReason.DUPLICATE: 1}
    assert (result.tried, result.exhausted) == (3, True)
    assert result.acceptance == pytest.approx(1 / 3)
    (only,) = result.samples
    assert (only.index, only.structure, only.raw) == (0, ROCK_SALT, ROCK_SALT)
    assert (only.max_displacement, only.is_remade) == (0, False)


def test_no_more_is_read_than_needed():
    proposals = [RejectionReason.WRONG_COMPOSITION] * 3 + [ROCK_SALT] * 5
    result = sample(Listed(proposals), (1, 1), 1, seed=0)
    assert (result.tried, len(result.samples), result.exhausted) == (4, 1, False)


def test_the_bound_on_tries_ends_an_endless_loop():
    endless = [RejectionReason.WRONG_COMPOSITION] * 1000
    result = sample(Listed(endless), (1, 1), 2, seed=0, max_tries_per_structure=10)
    assert (result.tried, result.samples, result.exhausted) == (20, [], False)


def test_volumes_that_mean_something_are_held():
    loose = ROCK_SALT.copy()
    loose.scale_lattice(2 * ROCK_SALT.volume)
    proposer = Listed([loose])
    assert sample(proposer, (1, 1), 1, seed=0).structures[0].volume == pytest.approx(loose.volume)
    proposer.volume_per_atom = 13.0
    assert sample(proposer, (1, 1), 1, seed=0).structures[0].volume == pytest.approx(26)


def test_compositions_do_not_share_their_random_numbers():
    found = [sample(RandomCells(MG_O), counts, 1, seed=0) for counts in ((2, 2), (2, 4))]
    angles = [result.samples[0].raw.lattice.angles for result in found]
    assert not np.allclose(*angles)
