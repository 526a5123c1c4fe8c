from __future__ import annotations

import pytest
from pydantic import ValidationError, model_validator

from gan_htvs.settings import PositiveInt, Settings, first_message, first_problem


class Part(Settings):
    size: PositiveInt


class Whole(Settings):
    part: Part
    low: float = 0
    high: float = 1

    @model_validator(mode="after")
    def _rises(self) -> Whole:
        if self.low >= self.high:
            raise ValueError("LOW must be below high")
        return self


@pytest.mark.parametrize(
    ("document", "problem", "message"),
    [
        (
            {"part": {"size": 0}},
            "part.size: input should be greater than or equal to 1",
            "input should be greater than or equal to 1",
        ),
        ({"part": {}}, "part.size is required", "field required"),
        ({"part": {"size": 1}, "low": 2}, "LOW must be below high", "LOW must be below high"),
    ],
)
def test_first_problem_of_settings_is_a_sentence(document, problem, message):
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(document)
    assert first_problem(error.value) == problem
    assert first_message(error.value) == message
