"""Jobs as they come out of a queue."""

from __future__ import annotations

import bson
from fireworks import Firework
from jobflow.managers.fireworks import flow_to_workflow


def queued(flow):
    """Return the jobs of a flow after a round trip through the documents of FireWorks."""
    workflow = flow_to_workflow(flow, store=None, allow_external_references=True)
    documents = [bson.decode(bson.encode(firework.to_db_dict())) for firework in workflow.fws]
    jobs = [Firework.from_dict(document).tasks[0]["job"] for document in documents]
    for job in jobs:
        job.hosts.clear()
    return jobs
