"""Ten structures from the generator that comes with the package, as CIF files."""

from jobflow import run_locally

from flows.sample import SampleMaker

sample_job = SampleMaker().make("MgMn2O4", 10)
outputs = run_locally(sample_job, log=False)
for proposal in outputs[sample_job.uuid][1].output.proposals:
    proposal.structure.to(filename=f"{proposal.candidate_id}.cif")
    print(proposal.candidate_id, proposal.structure.get_space_group_info()[0])
