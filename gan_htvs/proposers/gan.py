"""The generator as a proposer: conditioned sampling of Kim et al.

Kim et al., ACS Cent. Sci. 2020, 6, 1412: condition on a composition, keep a sample only if the
classifier predicts this composition, decode the rows that the classifier labels as atoms. A
generator of the preset ``tuned`` has no classifier, since its compositions are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gan_htvs.core.stages import ProposerName
from gan_htvs.proposers.assembly import Assembly
from gan_htvs.proposers.proposer import Proposer
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.point_cloud import DecodedCells, decode
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from gan_htvs.core.chemical_system import Counts, OxidationRanges
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.proposers.proposer import RawSample

BATCH_SIZE = 256
"""Samples per forward pass; fixed, because rounding depends on it."""


class GanProposer(Proposer):
    """Proposes samples of a trained generator.

    Parameters
    ----------
    trained
        Generator and, unless its compositions are exact, classifier.
    geometry
        Limits for the samples.
    oxidation_states
        Average oxidation states, from which polyanions follow; None: none are assembled.
    """

    name = ProposerName.GAN

    def __init__(
        self,
        trained: TrainedGenerator,
        geometry: GeometryLimits = CHEMISTRY,
        oxidation_states: OxidationRanges | None = None,
    ) -> None:
        super().__init__(trained.system, geometry)
        self.trained = trained
        self.assembly = Assembly.of(trained.system, oxidation_states or {})

    def assemble(self, structure: Structure) -> Structure:
        """Assemble the polyanions, if the system has any."""
        return structure if self.assembly is None else self.assembly.assemble(structure)

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        """Yield structures or rejection reasons endlessly."""
        while True:
            cells, rejections = self.read_batch(counts, rng)
            for reason, structure in zip(rejections, cells.to_structures(), strict=True):
                yield reason or structure

    @torch.no_grad()
    def read_batch(
        self, counts: Counts, rng: np.random.Generator
    ) -> tuple[DecodedCells, list[RejectionReason | None]]:
        """Generate the next ``BATCH_SIZE`` raw samples and read them with the classifier, if any.

        Returns
        -------
        cells
            Decoded from the rows that the classifier labels as atoms; without classifier, from the
            nonempty rows.
        rejections
            Reason why a sample does not have the composition, or None.
        """
        requested = torch.tensor([counts]).expand(BATCH_SIZE, -1)
        shape = (BATCH_SIZE, self.trained.generator.noise_dim)
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        images = self.trained.generator(noise, requested)
        if self.trained.classifier is None:
            return decode(images.numpy(), self.system), [None] * BATCH_SIZE
        readings = self.trained.classifier(images)
        predicted = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
        rejections: list[RejectionReason | None] = [
            None if is_match else RejectionReason.WRONG_COMPOSITION
            for is_match in (predicted == requested).all(dim=1).tolist()
        ]
        presence = torch.cat([reading.atoms.argmax(dim=2) for reading in readings], dim=1).bool()
        cells = decode(images.numpy(), self.system, presence=presence.numpy())
        for i in np.flatnonzero((cells.counts != np.array(counts)).any(axis=1)):
            empty = (cells.counts[i] == 0).any()
            reason = RejectionReason.EMPTY_ELEMENT if empty else RejectionReason.WRONG_ATOM_ROWS
            rejections[i] = rejections[i] or reason
        return cells, rejections
