from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.networks import (
    Classifier,
    Critic,
    Generator,
    condition_vector,
    expected_presence,
)
from gan_htvs.generator.presets import PRESETS
from tests.helpers import MG_MN_O

V_O = ChemicalSystem(caps={"V": 8, "O": 16})
PAPER = PRESETS["paper"]
NARROW = replace(PAPER, noise_dim=16, width=0.1)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def normalized(inputs: int, outputs: int) -> int:
    """Count weights, and scale and shift of the normalization instead of a bias."""
    return inputs * outputs + 2 * outputs


@pytest.mark.parametrize(
    ("system", "generator", "critic", "classifier"),
    [
        (
            MG_MN_O,
            linear(541, 128 * 28)
            + normalized(128, 3 * 256)
            - 2 * 2 * 256  # one normalization for the three columns
            + normalized(256, 512)
            + normalized(512, 256)
            + linear(256, 1)
            + normalized(84, 30)
            + linear(30, 6),
            linear(3, 512)
            + linear(512, 512)
            + linear(512, 256)
            + linear(1280, 1000)
            + linear(1000, 200)
            + linear(200, 10),
            3
            * (
                normalized(3, 512)
                + normalized(512, 256)
                + normalized(256, 256)
                + normalized(256, 2)
                + normalized(300, 100)
            )
            + 2 * (normalized(2 * 8, 300) + linear(100, 8))
            + (normalized(2 * 12, 300) + linear(100, 12)),
        ),
        (
            V_O,
            linear(512 + 1 + 24, 128 * 24)
            + (128 * 3 * 256 + 2 * 256)
            + normalized(256, 512)
            + normalized(512, 256)
            + linear(256, 1)
            + normalized(3 * 24, 30)
            + linear(30, 6),
            linear(3, 512)
            + linear(512, 512)
            + linear(512, 256)
            + linear((2 + 2) * 256, 1000)
            + linear(1000, 200)
            + linear(200, 10),
            2
            * (
                normalized(3, 512)
                + normalized(512, 256)
                + normalized(256, 256)
                + normalized(256, 2)
                + normalized(300, 100)
            )
            + (normalized(2 * 8, 300) + linear(100, 8))
            + (normalized(2 * 16, 300) + linear(100, 16)),
        ),
    ],
    ids=["Mg-Mn-O", "V-O"],
)
def test_parameter_counts_match_the_published_layers(
    system: ChemicalSystem, generator: int, critic: int, classifier: int
) -> None:
    assert parameter_count(Generator(system, PAPER)) == generator
    assert parameter_count(Critic(system, PAPER)) == critic
    assert parameter_count(Classifier(system, PAPER)) == classifier


def test_authors_classifier_has_a_cell_branch_and_no_last_normalization() -> None:
    text = parameter_count(Classifier(MG_MN_O, PAPER))
    code = Classifier(MG_MN_O, replace(PAPER, atom_branch_norms=3, lambda_cell=0.1))
    cell = (
        normalized(3, 64)
        + normalized(64, 64)
        + normalized(2 * 64, 100)
        + normalized(100, 50)
        + linear(50, 1)
    )
    assert parameter_count(code) == text + 3 * (2 - 2 * 2) + cell
    fill = code.fill(torch.rand(5, 30, 3))
    assert fill.shape == (5,)
    assert ((fill > 0) & (fill < 1)).all()
    with pytest.raises(ValueError, match="lambda_cell"):
        Classifier(V_O, NARROW).fill(torch.rand(5, 26, 3))


@pytest.mark.parametrize(("system", "rows"), [(MG_MN_O, 28), (V_O, 24)], ids=["Mg-Mn-O", "V-O"])
def test_shapes_follow_the_chemical_system(system: ChemicalSystem, rows: int) -> None:
    counts = torch.ones(5, len(system.elements), dtype=torch.long)
    images = Generator(system, NARROW)(torch.randn(5, 16), counts)
    assert images.shape == (5, 2 + rows, 3)
    assert ((images > 0) & (images < 1)).all()
    assert Critic(system, NARROW)(images).shape == (5,)
    readings = Classifier(system, NARROW)(images)
    assert [tuple(r.atoms.shape) for r in readings] == [(5, n, 2) for n in system.max_counts]
    assert [tuple(r.counts.shape) for r in readings] == [(5, n) for n in system.max_counts]


def test_condition_is_the_fraction_of_filled_rows_and_one_hot_counts() -> None:
    vector = condition_vector(torch.tensor([[2, 4, 8]]), MG_MN_O.max_counts)
    assert vector.shape == (1, 29)
    assert vector[0, 0] == pytest.approx(14 / 28)
    assert vector[0, 1:].nonzero().flatten().tolist() == [1, 8 + 3, 16 + 7]


def test_expected_atoms_are_in_the_first_rows_of_their_block() -> None:
    presence = expected_presence(torch.tensor([[2, 1, 3], [8, 8, 12]]), MG_MN_O.max_counts)
    assert presence[0].nonzero().flatten().tolist() == [0, 1, 8, 16, 17, 18]
    assert presence[1].all()


def test_critic_is_invariant_to_the_order_of_equal_atoms() -> None:
    images = torch.rand(2, 30, 3)
    shuffled = images.clone()
    shuffled[:, 2:10] = images[:, 2:10].flip(1)
    swapped = images.clone()
    swapped[:, 2:10], swapped[:, 10:18] = images[:, 10:18], images[:, 2:10]
    critic = Critic(MG_MN_O, NARROW)
    torch.testing.assert_close(critic(shuffled), critic(images), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(critic(swapped), critic(images), atol=1e-5)


def test_row_maps_equal_the_published_convolutions() -> None:
    critic = Critic(MG_MN_O, NARROW)
    first = critic.rows[0]
    assert isinstance(first, nn.Linear)
    convolution = nn.Conv2d(1, first.out_features, (1, 3))
    with torch.no_grad():
        convolution.weight.copy_(first.weight.view_as(convolution.weight))
        convolution.bias.copy_(first.bias)  # type: ignore[union-attr]
    images = torch.rand(4, 30, 3)
    by_convolution = convolution(images[:, None]).squeeze(3).transpose(1, 2)
    torch.testing.assert_close(first(images), by_convolution)
