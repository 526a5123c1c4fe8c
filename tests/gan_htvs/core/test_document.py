"""Non-finite numbers in stored documents."""

from __future__ import annotations

import inspect
import math
import typing
from types import UnionType

import pytest
from pydantic import ValidationError

from gan_htvs.core import band_gap as bandgap
from gan_htvs.core import candidate, oxidation, pourbaix_stability
from gan_htvs.core.document import Document
from gan_htvs.evaluation import evaluation_documents as evaluation
from gan_htvs.evaluation import rediscovery_documents as rediscovery
from gan_htvs.potentials import relaxer
from gan_htvs.thermodynamics import hull, ions

MODULES = (
    bandgap,
    candidate,
    evaluation,
    hull,
    ions,
    oxidation,
    pourbaix_stability,
    rediscovery,
    relaxer,
)


def has_float(annotation):
    if annotation is float:
        return True
    if typing.get_origin(annotation) in {typing.Union, UnionType}:
        return any(has_float(option) for option in typing.get_args(annotation))
    return False


def fields_with_floats():
    for module in MODULES:
        for name, model in inspect.getmembers(module, inspect.isclass):
            if issubclass(model, Document) and model.__module__ == module.__name__:
                for field, info in model.model_fields.items():
                    if has_float(info.annotation):
                        yield pytest.param(model, field, id=f"{name}.{field}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("model", "field"), fields_with_floats())
def test_non_finite_numbers_are_refused(model, field, value):
    with pytest.raises(ValidationError) as raised:
        model.model_validate({field: value})
    assert "finite_number" in {e["type"] for e in raised.value.errors() if e["loc"][0] == field}


def test_non_finite_numbers_in_lists_and_mappings_are_refused():
    for fields in ({"states": (2, math.nan)}, {"average": {"Mn": math.inf}}):
        with pytest.raises(ValidationError, match="finite"):
            oxidation.OxidationStates.model_validate(
                {"states": (2,), "is_neutral": None, "average": {}} | fields
            )
