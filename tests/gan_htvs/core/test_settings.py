from __future__ import annotations

import pytest
from pydantic import ValidationError, model_validator

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import PositiveInt, Settings, first_message, first_problem, read_mapping


class Part(Settings):
    size: PositiveInt


class Whole(Settings):
    part: Part
    low: float = 0
    high: float = 1

    @model_validator(mode="after")
    def _is_ordered(self) -> Whole:
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
def test_first_problem_is_formatted(document, problem, message):
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(document)
    assert first_problem(error.value) == problem
    assert first_message(error.value) == message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\nsize: 1\nname: b\n", 3),
        ("part:\n  size: 1\n  'size': 1\n", 3),
        ("parts: [{1: a, 1: b}]\n", 1),
    ],
)
def test_repeated_key_is_a_user_error_with_its_line(tmp_path, text, line):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_mapping(path, "write it")
    assert f"{path}: line {line}" in str(error.value)


def test_key_may_override_a_merged_one(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("outer: {deep: {a: &a {x: 1}, b: &b {<<: *a, x: 2}}}\nc:\n  <<: *b\n  x: 3\n")
    assert read_mapping(path, "write it") == {
        "outer": {"deep": {"a": {"x": 1}, "b": {"x": 2}}},
        "c": {"x": 3},
    }


@pytest.mark.parametrize("tag", ["object/apply:os.getcwd []", "name:os.system"])
def test_python_tags_are_refused(tmp_path, tag):
    path = tmp_path / "python.yaml"
    path.write_text(f"a: !!python/{tag}\n")
    with pytest.raises(UserError, match="line 1"):
        read_mapping(path, "write it")
