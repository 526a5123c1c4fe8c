from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.special import log_softmax, softmax

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.losses import classifier_loss
from gan_htvs.generator.networks import Classifier
from gan_htvs.generator.presets import PRESETS

SYSTEM = ChemicalSystem(caps={"V": 3, "O": 4})
COUNTS = torch.tensor([[1, 4], [3, 2], [2, 1]])
PRESENT = [[[1, 0, 0], [1, 1, 1], [1, 1, 0]], [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 9, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(1)
    return Classifier(SYSTEM, replace(PRESETS["authors"], width=0.1)).eval()


def cross_entropies(
    classifier: Classifier, images: torch.Tensor, *, softmax_twice: bool
) -> tuple[float, float]:
    """Atoms and composition, one term at a time."""
    atoms = composition = 0.0
    with torch.no_grad():
        readings = classifier(images)
    for e, reading in enumerate(readings):
        rows, read = reading.atoms.numpy(), reading.counts.numpy()
        if softmax_twice:
            rows, read = softmax(rows, axis=2), softmax(read, axis=1)
        rows, read = log_softmax(rows, axis=2), log_softmax(read, axis=1)
        cap = SYSTEM.max_counts[e]
        for i in range(3):
            composition -= read[i, COUNTS[i, e] - 1] / 3
            for row in range(cap):
                atoms -= rows[i, row, PRESENT[e][i][row]] / (3 * cap)
    return atoms, composition


def test_the_text_weighs_the_composition(classifier: Classifier, images: torch.Tensor) -> None:
    atoms, composition = cross_entropies(classifier, images, softmax_twice=False)
    loss = classifier_loss(classifier, images, COUNTS, PRESETS["paper"])
    assert loss.item() == pytest.approx(atoms + 0.3 * composition, rel=1e-5)


def test_the_code_weighs_the_atoms_and_applies_softmax_twice(
    classifier: Classifier, images: torch.Tensor
) -> None:
    atoms, composition = cross_entropies(classifier, images, softmax_twice=True)
    with torch.no_grad():
        fill = classifier.fill(images)
    error = ((fill - torch.tensor([5 / 7, 5 / 7, 3 / 7])) ** 2).mean().item()
    authors = PRESETS["authors"]
    loss = classifier_loss(classifier, images, COUNTS, authors)
    assert loss.item() == pytest.approx(0.3 * atoms + composition + 0.1 * error, rel=1e-5)
    generated = classifier_loss(
        classifier,
        images,
        COUNTS,
        replace(authors, lambda_cell=0),
        weight_atoms=authors.lambda_2,
        weight_counts=authors.lambda_1,
    )
    assert generated.item() == pytest.approx(composition, rel=1e-5)
