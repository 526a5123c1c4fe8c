from __future__ import annotations

from jobflow import JobStore, OutputReference, job, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from flows.steps import READS_STORE, store_outputs
from gan_htvs.candidate import Origin, Proposal

PROPOSALS = {
    f"uuid-{number}": Proposal(
        candidate_id=str(number),
        structure=Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(4 + number / 10), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        ),
        origin=Origin(proposer="random", requested_composition="Mg4O4", index=number),
    )
    for number in range(3)
}


@job(config=READS_STORE)
def put():
    store_outputs(PROPOSALS, campaign="mg-o")


def test_what_a_job_stores_besides_its_output_is_found_by_reference_and_never_twice():
    store = JobStore(MemoryStore())
    for _ in range(2):  # a worker may be killed, and its job run again
        run_locally(put(), store=store, log=False)
    for uuid, proposal in PROPOSALS.items():
        assert store.count({"uuid": uuid}) == 1
        assert OutputReference(uuid).resolve(store) == proposal
        assert OutputReference(uuid).structure.resolve(store) == proposal.structure
