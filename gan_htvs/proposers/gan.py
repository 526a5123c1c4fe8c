"""The generator as a proposer: conditioned sampling as Kim et al. do it.

Kim et al., ACS Cent. Sci. 2020, 6, 1412: condition on a composition, keep a sample only if the
classifier reads that composition from it, decode the rows that the classifier calls atoms. A
generator of the preset ``tuned`` has no classifier, since its compositions are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gan_htvs.core.stages import ProposerName
from gan_htvs.proposers.proposer import Proposer
from gan_htvs.structures.declash import VOLUME_PER_ATOM
from gan_htvs.structures.point_cloud import DecodedCells, decode
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.core.chemical_system import Counts
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.proposers.proposer import RawSample

BATCH_SIZE = 256
"""Samples per pass through the networks. Always the same, as rounding depends on it."""


class GanProposer(Proposer):
    """Proposes what a trained generator makes of a composition.

    Parameters
    ----------
    trained
        Generator and, unless its compositions are exact, classifier.
    """

    name = ProposerName.GAN
    volume_per_atom = VOLUME_PER_ATOM

    def __init__(self, trained: TrainedGenerator) -> None:
        super().__init__(trained.system)
        self.trained = trained

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        """Yield structures, and the reasons where there is none, without end."""
        while True:
            cells, refused = self.read_batch(counts, rng)
            for reason, structure in zip(refused, cells.to_structures(), strict=True):
                yield reason or structure

    @torch.no_grad()
    def read_batch(
        self, counts: Counts, rng: np.random.Generator
    ) -> tuple[DecodedCells, list[RejectionReason | None]]:
        """Generate the next ``BATCH_SIZE`` raw samples and let the classifier, if any, read them.

        Returns
        -------
        cells
            Decoded from the rows that the classifier calls atoms; without one, that are not empty.
        refused
            Why each is not of the composition, or None.
        """
        asked = torch.tensor([counts]).expand(BATCH_SIZE, -1)
        shape = (BATCH_SIZE, self.trained.generator.noise_dim)
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        images = self.trained.generator(noise, asked)
        if self.trained.classifier is None:
            return decode(images.numpy(), self.system), [None] * BATCH_SIZE
        readings = self.trained.classifier(images)
        found = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
        refused: list[RejectionReason | None] = [
            None if agrees else RejectionReason.WRONG_COMPOSITION
            for agrees in (found == asked).all(dim=1).tolist()
        ]
        presence = torch.cat([reading.atoms.argmax(dim=2) for reading in readings], dim=1).bool()
        cells = decode(images.numpy(), self.system, presence=presence.numpy())
        for i in np.flatnonzero((cells.counts != np.array(counts)).any(axis=1)):
            empty = (cells.counts[i] == 0).any()
            rows = RejectionReason.EMPTY_ELEMENT if empty else RejectionReason.WRONG_ATOM_ROWS
            refused[i] = refused[i] or rows
        return cells, refused
