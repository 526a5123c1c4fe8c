"""A campaign whose jobs only add, for tests of what queues and runs them."""

from __future__ import annotations

from jobflow import job

from gan_htvs.campaign import Campaign

SEARCH = Campaign(
    name="search",
    chemical_system={"caps": {"Mg": 2, "O": 2}},
    oxidation_states={"Mg": (2, 2), "O": (-2, -2)},
)


@job
def add(a, b):
    return a + b
