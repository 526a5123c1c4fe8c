"""The classifier's loss.

Kim et al., ACS Cent. Sci. 2020, 6, 1412: L_class = L_atom + lambda_c L_comp, each cross entropy on
real plus lambda_i times on generated images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from gan_htvs.generator.networks import expected_presence

if TYPE_CHECKING:
    from gan_htvs.generator.networks import Classifier, ElementReading
    from gan_htvs.generator.presets import TrainingParameters


def classifier_loss(
    classifier: Classifier,
    images: Tensor,
    counts: Tensor,
    parameters: TrainingParameters,
    *,
    weight_atoms: float = 1.0,
    weight_counts: float = 1.0,
) -> Tensor:
    """Compute the cross entropies of both branches, summed over the elements.

    ``images`` (n, 2 + R, 3) hold ``counts`` (n, E) atoms. The weights are 1 for real images,
    lambda_2 and lambda_1 for generated ones.
    """
    atoms, composition = _cross_entropies(
        classifier(images), counts, classifier, softmax_twice=bool(parameters.softmax_twice)
    )
    if parameters.lambda_c_on_atoms:
        weight_atoms *= parameters.lambda_c
    else:
        weight_counts *= parameters.lambda_c
    loss = weight_atoms * atoms + weight_counts * composition
    if parameters.lambda_cell:
        filled = counts.sum(dim=1) / classifier.system.max_atoms
        error = (classifier.fill(images).float() - filled).square().mean()
        loss = loss + parameters.lambda_cell * error
    return loss


def _cross_entropies(
    readings: list[ElementReading], counts: Tensor, classifier: Classifier, *, softmax_twice: bool
) -> tuple[Tensor, Tensor]:
    blocks = classifier.system.blocks
    present = expected_presence(counts, classifier.system).long()  # (n, R)
    atoms = composition = torch.zeros((), device=counts.device)
    for e, (reading, block) in enumerate(zip(readings, blocks, strict=True)):
        rows, atom_counts = reading.atoms.float(), reading.counts.float()  # (n, N_e, 2), (n, N_e)
        if softmax_twice:
            rows, atom_counts = rows.softmax(dim=2), atom_counts.softmax(dim=1)
        atoms = atoms + functional.cross_entropy(
            rows.flatten(end_dim=1), present[:, block].flatten()
        )
        composition = composition + functional.cross_entropy(atom_counts, counts[:, e] - 1)
    return atoms, composition
