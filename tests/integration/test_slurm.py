"""FireWorks' own qlaunch drives a campaign through a real SLURM."""

from __future__ import annotations


def test_it_takes_jobs(slurm, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\nsleep 100\n")
    told = slurm.call("sbatch", "--partition=gpu", "--gres=gpu:1", "--chdir", tmp_path, script)
    job = told.split()[-1]
    slurm.wait_until(lambda: slurm.jobs("gpu") == {job: "RUNNING"}, "job starts", 10)
    slurm.call("scancel", job)
    slurm.wait_until(lambda: slurm.state(job) == "CANCELLED", "job ends", 10)
