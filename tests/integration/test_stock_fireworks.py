"""A flow of the user on stock FireWorks: LaunchPad, flow_to_workflow and rlaunch."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import yaml
from fireworks import LaunchPad
from jobflow import Flow, JobStore
from jobflow.managers.fireworks import flow_to_workflow

from flows.candidate import CandidateMaker, StabilityMaker
from flows.references import ReferencesMaker
from gan_htvs.core.stages import Stage
from tests.helpers import cesium_chloride, rocksalt

RLAUNCH = Path(sysconfig.get_path("scripts")) / "rlaunch"


def test_own_structures_through_stock_fireworks(launchpad_file, tmp_path):
    server = yaml.safe_load(launchpad_file.read_text())
    connection = {"host": server["host"], "port": server["port"], "database": server["name"]}
    outputs = {"type": "MongoStore", "collection_name": "outputs", **connection}
    blobs = {"type": "GridFSStore", "collection_name": "blobs", **connection}
    job_store = {"docs_store": outputs, "additional_stores": {"data": blobs}}
    (tmp_path / "jobflow.yaml").write_text(yaml.safe_dump({"JOB_STORE": job_store}))
    (tmp_path / "stock.yaml").write_text(
        yaml.safe_dump({"host": server["host"], "port": server["port"], "name": server["name"]})
    )

    maker = CandidateMaker(stability_maker=StabilityMaker(band_gap_maker=None))
    references = ReferencesMaker().make(["Mg", "O"])
    candidates = [
        maker.make(structure, references.output) for structure in (rocksalt(), cesium_chloride())
    ]
    launchpad = LaunchPad.from_file(str(tmp_path / "stock.yaml"))
    launchpad.reset("", require_password=False)
    launchpad.add_wf(flow_to_workflow(Flow([references, *candidates])))
    subprocess.run(
        [str(RLAUNCH), "-l", str(tmp_path / "stock.yaml"), "-s", "rapidfire"],
        cwd=tmp_path,
        env=os.environ
        | {
            "JOBFLOW_CONFIG_FILE": str(tmp_path / "jobflow.yaml"),
            "GAN_HTVS_SCRATCH": str(tmp_path),
        },
        timeout=600,
        check=True,
    )
    states = {launchpad.get_fw_by_id(number).state for number in launchpad.get_fw_ids()}
    assert states == {"COMPLETED"}
    with JobStore.from_dict_spec(job_store) as store:
        stable, unstable = (candidate.output.resolve(store) for candidate in candidates)
    assert stable.stage == "pourbaix_metastable"
    assert stable.origin.proposer == "user"
    assert unstable.stage == Stage.RELAXED
    assert "energy above hull" in unstable.reason
