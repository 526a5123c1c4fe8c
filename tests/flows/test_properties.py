"""Stages with properties of the user, and funnels without Pourbaix diagram or gap."""

from __future__ import annotations

import pytest

from flows.candidate import CandidateMaker, StabilityMaker
from flows.properties import PropertyMaker
from gan_htvs.core.errors import UserError
from gan_htvs.core.funnel_stages import FunnelSettings
from gan_htvs.core.properties import UserProperty
from tests.flows.test_candidate import TabulatedGapMaker
from tests.helpers import output_of, references, relaxed, rocksalt, survivor

STABLE = {"name": "stable", "property": "energy_above_hull", "max": 0.05}
PACKED = {"name": "packed", "property": "packing", "min": 0.08}
OPEN = PACKED | {"min": 0.5}
GAP = {"name": "insulator", "property": "band_gap", "min": 1}
PACKING = {"path": "tests.user_properties.atoms_per_volume"}


def verdict_of(*stages, gap_maker=None, properties=None):
    """Evaluate MgO, relaxed before, without a Pourbaix diagram."""
    maker = CandidateMaker(
        stability_maker=StabilityMaker(
            band_gap_maker=gap_maker,
            funnel=FunnelSettings(stages=stages, properties=properties or {"packing": PACKING}),
            pourbaix=None,
        )
    )
    return output_of(maker.make(survivor("a", rocksalt(), relaxed()), references()))


def result_of(path, **arguments):
    settings = UserProperty(path=f"tests.user_properties.{path}", arguments=arguments)
    return output_of(PropertyMaker(settings=settings).make(rocksalt()))


def test_funnel_of_the_hull_alone_needs_neither_ions_nor_gaps():
    verdict = verdict_of(STABLE, gap_maker=TabulatedGapMaker())
    assert (verdict.stage, verdict.reason) == ("stable", None)
    assert verdict.assessment.pourbaix is None
    assert verdict.band_gap is None


def test_properties_are_computed_in_the_order_of_the_stages():
    verdict = verdict_of(STABLE, PACKED, GAP, gap_maker=TabulatedGapMaker())
    assert verdict.stage == "insulator"
    structure = verdict.relaxed.structure
    density = len(structure) / structure.volume
    assert verdict.properties["packing"].value == pytest.approx(density)
    assert verdict.band_gap.band_gap == 2.0


def test_property_is_not_computed_after_a_missed_stage():
    verdict = verdict_of(STABLE, OPEN, GAP, gap_maker=TabulatedGapMaker())
    assert (verdict.stage, verdict.band_gap) == ("stable", None)
    assert "packing" in verdict.properties
    verdict = verdict_of(STABLE | {"max": -1}, PACKED)
    assert verdict.properties == {}


def test_gap_that_cannot_be_computed_ends_the_funnel():
    verdict = verdict_of(STABLE, GAP, PACKED)
    assert (verdict.stage, verdict.properties) == ("stable", {})


def test_function_gets_its_arguments():
    assert result_of("atoms_per_volume", scale=0.0).value == 0


def test_output_of_a_maker_is_the_value():
    assert result_of("CoordinationMaker").value == 6
    assert result_of("CoordinationMaker", cutoff=1.0).value == 0


@pytest.mark.parametrize(
    ("path", "reason"), [("fail", "ArithmeticError: no value for MgO"), ("unknown", "None")]
)
def test_error_of_the_function_is_the_reason(path, reason):
    result = result_of(path)
    assert result.value is None
    assert reason in result.reason
    properties = {"packing": {"path": f"tests.user_properties.{path}"}}
    verdict = verdict_of(STABLE, PACKED, properties=properties)
    assert verdict.stage == "stable"
    assert reason in verdict.reason


def test_code_that_cannot_be_imported_is_refused_when_the_job_is_made():
    with pytest.raises(UserError, match="no_such_function"):
        result_of("no_such_function")
