"""Chains of two trivial jobs, so that what a benchmark measures is the orchestration alone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import numpy as np
import yaml
from jobflow import Flow, job
from pymatgen.core import Lattice, Structure

from flows.routing import label, mark, route
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import Origin, Proposal
from gan_htvs.core.stages import ProposerName, Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

N_ATOMS = 20

CAMPAIGN = Campaign(
    name="chains",
    chemical_system={"caps": {"Mg": 5, "Mn": 5, "O": 10}},
    oxidation_states={"Mg": (2, 2), "Mn": (2, 4), "O": (-2, -2)},
)


@job
def settle(structure: Structure) -> Structure:
    """Stand for a relaxation: a structure goes in, another comes out."""
    return structure


@job
def weigh(structure: Structure) -> float:
    """Stand for a static calculation: its structure is the output of the relaxation."""
    return structure.density


def proposal(number: int) -> Proposal:
    """Make a proposal with 20 atoms anywhere."""
    rng = np.random.default_rng(number)
    cell = Lattice.cubic((11 * N_ATOMS) ** (1 / 3))
    symbols = ["Mg", "Mn", "O", "O"] * (N_ATOMS // 4)
    return Proposal(
        candidate_id=f"{number:016x}",
        structure=Structure(cell, symbols, rng.random((N_ATOMS, 3))),
        origin=Origin(
            proposer=ProposerName.RANDOM, requested_composition="Mg5Mn5O10", index=number
        ),
    )


def chains(numbers: Sequence[int]) -> Flow:
    """Make chains whose first jobs have their structures by value, as those of candidates do."""
    made = []
    for number in numbers:
        settling = mark(settle(proposal(number).structure), Step.RELAX, "potential")
        weighing = mark(weigh(settling.output), Step.STATIC, "potential")
        made.append(Flow([settling, weighing]))
    flow = Flow(made, name=f"chains from {numbers[0]}")
    return route(label(flow, CAMPAIGN.name), CAMPAIGN.routing)


def write_launchpad_file(directory: Path, name: str, port: int) -> Path:
    """Name a database of an embedded server that has its data in ``directory``."""
    path = directory / f"{name}.yaml"
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "name": name,
        "embedded_storage": "database",
        "user_indices": ["spec.campaign"],
        "wf_user_indices": ["metadata.unit"],
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def free_port() -> int:
    """Find a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
