"""Campaigns of VASP, and their jobs as a queue hands them out."""

from __future__ import annotations

import bson
from fireworks import Firework
from jobflow.managers.fireworks import flow_to_workflow
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign import Campaign
from gan_htvs.engines import REHEARSAL

REFERENCES = "uuid-of-the-references"
TAKES_ALMOST_ANYTHING = {
    "metastable": 9,
    "synthesizable": 9,
    "pourbaix_screen": 9,
    "pourbaix": 9,
    "band_gap": (0.1, 9),
}


def campaign_of(**vasp):
    return Campaign.model_validate(
        {
            "name": "mg-mn-o-rehearsal",
            "chemical_system": {"caps": {"Mg": 8, "Mn": 8, "O": 12}},
            "oxidation_states": {"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
            "thresholds": TAKES_ALMOST_ANYTHING,
            "engines": {
                "energy": {"name": REHEARSAL},
                "band_gap": {"name": REHEARSAL},
                "vasp": vasp,
            },
        }
    )


def rocksalt(metal, a):
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    return cell.get_primitive_structure()


def queued(flow):
    """Send the jobs of a flow through the database of a queue."""
    workflow = flow_to_workflow(flow, store=None, allow_external_references=True)
    documents = [bson.decode(bson.encode(firework.to_db_dict())) for firework in workflow.fws]
    jobs = [Firework.from_dict(document).tasks[0]["job"] for document in documents]
    for job in jobs:
        job.hosts.clear()
    return jobs
