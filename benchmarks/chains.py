"""Chains of two trivial jobs, to measure the orchestration alone."""

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
def relax(structure: Structure) -> Structure:
    """Return the structure, in place of a relaxation."""
    return structure


@job
def density(structure: Structure) -> float:
    """Return the density, g/cm^3, in place of a static calculation."""
    return structure.density


def proposal(number: int) -> Proposal:
    """Return a proposal with 20 atoms at random positions."""
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
    """Return a flow of chains; the first jobs contain their structures, as those of candidates."""
    flows = []
    for number in numbers:
        relax_job = mark(relax(proposal(number).structure), Step.RELAX, "potential")
        density_job = mark(density(relax_job.output), Step.STATIC, "potential")
        flows.append(Flow([relax_job, density_job]))
    flow = Flow(flows, name=f"chains from {numbers[0]}")
    return route(label(flow, CAMPAIGN.name), CAMPAIGN.routing)


def write_launchpad_file(directory: Path, name: str, port: int) -> Path:
    """Write my_launchpad.yaml for an embedded server with its data in ``directory``."""
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
    """Return an unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
