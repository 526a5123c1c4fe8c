"""The examples in the docstrings of the flows run and print the documented output."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import flows

EXAMPLES = [
    example
    for module in pkgutil.walk_packages(flows.__path__, "flows.")
    if not module.name.rpartition(".")[2].startswith("_")
    for example in doctest.DocTestFinder().find(importlib.import_module(module.name))
    if example.examples
]


def test_every_maker_has_an_example():
    documented = {example.name.rpartition(".")[2] for example in EXAMPLES}
    assert documented >= {
        "CampaignMaker",
        "CandidateMaker",
        "CompositionMaker",
        "GpawBandGapMaker",
        "PotentialEnergyMaker",
        "PrescreenMaker",
        "ReferencesMaker",
        "SampleMaker",
        "SelectMaker",
        "StabilityMaker",
        "TrainMaker",
        "VaspBandGapMaker",
        "VaspEnergyMaker",
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed
