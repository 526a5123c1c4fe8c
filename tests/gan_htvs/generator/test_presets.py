from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.generator import presets
from gan_htvs.generator.presets import PRESETS, TrainingParameters, training_parameters

PAGE = Path(__file__).parents[3] / "docs" / "generator.md"


def test_default_preset_is_paper() -> None:
    assert training_parameters() == TrainingParameters() == PRESETS["paper"]


def test_authors_preset_differs_in_the_listed_fields() -> None:
    paper, authors = (dataclasses.asdict(PRESETS[name]) for name in ("paper", "authors"))
    differences = {name: authors[name] for name in paper if paper[name] != authors[name]}
    assert differences == {
        "critic_learning_rate": 5e-5,
        "generator_learning_rate": 5e-5,
        "classifier_learning_rate": 2.5e-5,
        "learning_rate_decay": 0.95,
        "batch_norm_eps": 0.8,
        "slope_of_sum": 1,
        "atom_branch_norms": 3,
        "softmax_twice": 1,
        "lambda_2": 0.0,
        "lambda_c_on_atoms": 1,
        "lambda_cell": 0.1,
        "uniform_conditions": 1,
        "padding_noise_mean": 1e-3,
        "padding_noise_std": pytest.approx(3.1623e-3, rel=1e-4),
    }


def test_decay_steps_of_authors_are_ten_epochs() -> None:
    authors = PRESETS["authors"]
    batches = 10 * 112_000 / authors.batch_size
    assert batches / authors.critic_steps == authors.decay_steps


ROWS = "\n".join(line for line in PAGE.read_text().splitlines() if line.startswith("| `"))


@pytest.mark.parametrize("text", [presets.__doc__, ROWS], ids=["module", "page"])
def test_tables_list_every_field(text: str) -> None:
    names = set(re.findall(r"[a-z_0-9]+", text.replace("_mean, _std", "_mean padding_noise_std")))
    assert set(PRESETS["paper"].__dataclass_fields__) <= names


def test_fields_of_a_preset_can_be_overridden() -> None:
    changed = training_parameters("authors", {"critic_steps": 2, "lambda_c": 1, "softmax_twice": 0})
    assert (changed.critic_steps, changed.lambda_c, changed.softmax_twice) == (2, 1.0, 0)
    assert changed.generator_learning_rate == 5e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 2.5),
        ("batch_size", 1),
        ("width", -1),
        ("noise_dim", 0),
        ("lambda_1", -1),
        ("beta1", 1),
        ("learning_rate_decay", 2),
        ("softmax_twice", 2),
        ("atom_branch_norms", 5),
    ],
)
def test_invalid_value_is_a_user_error_with_field_and_value(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"generator\.overrides\.{field}: .*, not {value}"):
        training_parameters("paper", {field: value})


@pytest.mark.parametrize(
    ("field", "suggestion"), [("critic_step", "critic_steps"), ("zzz", "noise_dim")]
)
def test_unknown_field_is_a_user_error_with_a_suggestion(field: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=suggestion):
        training_parameters("paper", {field: 2})


def test_unknown_preset_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"'papre'.*paper, authors, tuned"):
        training_parameters("papre")
