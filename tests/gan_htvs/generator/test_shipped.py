"""The trained generator in the package."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from gan_htvs.campaign.campaign_file import read_campaign, validate_campaign
from gan_htvs.campaign.model import SHIPPED_GENERATOR, Campaign
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.checkpoint import load
from gan_htvs.generator.presets import training_parameters
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample

MAX_BYTES = 6_000_000


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    template = resources.files("launchers.cli") / "templates" / "generator.yaml"
    with resources.as_file(template) as path:
        return read_campaign(path)


def test_shipped_generator_belongs_to_the_campaign_of_the_model_card(campaign: Campaign) -> None:
    assert SHIPPED_GENERATOR.stat().st_size < MAX_BYTES
    shipped = load(SHIPPED_GENERATOR, system=campaign.chemical_system)
    settings = campaign.generator
    assert shipped.half
    assert shipped.parameters == training_parameters(settings.preset, settings.overrides)
    assert (shipped.seed, shipped.steps) == (settings.seed, settings.max_steps)
    dataset = build_dataset(campaign.chemical_system, campaign.oxidation_states, campaign.dataset)
    training, held_out = dataset.split(campaign.dataset.held_out)
    assert shipped.dataset == training.hash
    assert len(held_out) > 50


def test_sampled_crystals_hardly_need_declashing(campaign: Campaign) -> None:
    proposer = GanProposer(load(SHIPPED_GENERATOR, system=campaign.chemical_system))
    result = sample(proposer, (1, 2, 4), 10, seed=3)
    assert result.acceptance > 0.3
    assert np.median([sampled.max_displacement for sampled in result.samples]) < 0.8


def test_campaign_can_use_the_shipped_generator(campaign: Campaign) -> None:
    document = campaign.model_dump(mode="json") | {"generator": {"checkpoint": "shipped"}}
    shipped = validate_campaign(document, "campaign.yaml")
    assert shipped.generator.checkpoint_file == SHIPPED_GENERATOR


@pytest.mark.parametrize("position", [-1, 20_000])
def test_flipped_bit_is_a_user_error(position: int) -> None:
    data = bytearray(SHIPPED_GENERATOR.read_bytes())
    data[position] ^= 1
    with pytest.raises(UserError, match="generator checkpoint"):
        load(bytes(data))


def test_shipped_generator_of_another_system_is_a_user_error() -> None:
    with pytest.raises(UserError, match="Mg 8, Mn 8, O 12"):
        load(SHIPPED_GENERATOR, system=ChemicalSystem(caps={"V": 4, "O": 8}))
