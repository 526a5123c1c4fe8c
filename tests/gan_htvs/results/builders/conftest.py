"""Stores with job outputs, and the builders that read them."""

from __future__ import annotations

import pytest
from maggma.stores import MemoryStore
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import (
    Assessment,
    Origin,
    PrescreenVerdict,
    Proposal,
    RelaxedStructure,
    Screened,
    Verdict,
)
from gan_htvs.core.stages import ScreeningStep, Stage, Step
from gan_htvs.results.builders.candidates import CandidateBuilder
from gan_htvs.results.builders.stability import StabilityBuilder
from gan_htvs.results.store import CandidateStore
from tests import helpers

SETTINGS = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}
MGO_PER_ATOM = -6.314


def references(level=helpers.CHGNET, **more):
    return helpers.references(
        level, {"Mg": -1.58, "O2": -4.94795546875, "MgO": MGO_PER_ATOM} | more
    )


def cubic(a, *sites):
    """Return the primitive cell of a face-centered cubic crystal."""
    symbols, coordinates = zip(*sites, strict=True)
    return Structure(Lattice.rhombohedral(a / 2**0.5, 60), symbols, [[x] * 3 for x in coordinates])


def rocksalt(metal="Mg", a=4.21):
    return cubic(a, (metal, 0), ("O", 0.5))


def zincblende(metal="Mg", a=4.6):
    return cubic(a, (metal, 0), ("O", 0.25))


def fluorite():
    """Return MgO2, which is not a reference phase."""
    return cubic(5.0, ("Mg", 0), ("O", 0.25), ("O", 0.75))


class Laboratory:
    """Stores, with methods that add job outputs and run the builders."""

    def __init__(self, stores=None):
        keys = {
            "outputs": "uuid",
            "campaigns": "name",
            "candidates": "candidate_id",
        }
        stores = stores or {name: MemoryStore(key=key) for name, key in keys.items()}
        for name, store in stores.items():
            store.connect()
            setattr(self, name, store)
        self.clock = 0
        self.configure(SETTINGS)
        self.references = references()
        self.job("references", Step.REFERENCES, self.references)

    def configure(self, settings):
        campaign = Campaign.model_validate(settings)
        self.campaigns.update(
            [{"name": campaign.name, "settings": campaign.model_dump(mode="json")}]
        )

    def job(self, uuid, step, output, *, index=1, **metadata):
        self.clock += 1
        self.outputs.update(
            [
                {
                    "uuid": uuid,
                    "index": index,
                    "completed_at": f"2026-01-01T00:{self.clock // 60:02d}:{self.clock % 60:02d}",
                    "metadata": {"campaign": "mg-o", "step": step.value, **metadata},
                    "output": jsanitize(output, strict=True, enum_values=True),
                }
            ],
            key=["uuid", "index"],
        )

    def change(self, uuid, *path, to):
        """Change a field of a stored output."""
        document = self.outputs.query_one({"uuid": uuid})
        part = document["output"]
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = to
        self.outputs.update([document])

    def propose(self, *ids):
        proposals = [
            Proposal(candidate_id=candidate_id, structure=rocksalt(), origin=origin(index=i))
            for i, candidate_id in enumerate(ids)
        ]
        self.job(f"propose {ids}", Step.PROPOSE, {"proposals": proposals})

    def prescreen(self, *ids, job="prescreen", **verdict):
        """Store the output of a prescreen with the same verdict for all candidates."""
        self._screen(job, Step.PRESCREEN, dict.fromkeys(ids, PrescreenVerdict(**verdict)))

    def select(self, *survivors, rejected=(), job="select"):
        """Store the output of a selection: ids of survivors, and pairs of duplicates."""
        duplicates = {
            candidate_id: PrescreenVerdict(
                rejected_at=ScreeningStep.RELAXED_DUPLICATE,
                reason=f"relaxed to the same crystal as {other}",
                duplicate_of=other,
            )
            for candidate_id, other in rejected
        }
        self._screen(job, Step.SELECT, dict.fromkeys(survivors, PrescreenVerdict()) | duplicates)

    def _screen(self, job, step, verdicts):
        proposals = [
            helpers.proposal(candidate_id, rocksalt()).model_copy(update={"prescreen": verdict})
            for candidate_id, verdict in verdicts.items()
        ]
        self.job(job, step, Screened(proposals=proposals))

    def fail(self, candidate_id, reason="relax MgO: not converged"):
        """Store the verdict of a candidate whose energy calculation failed."""
        verdict = Verdict(
            candidate_id=candidate_id,
            origin=origin(),
            structure=rocksalt(),
            stage=Stage.FAILED,
            reason=reason,
            references=self.references.content_hash,
        )
        self.job(f"gate {candidate_id}", Step.GATE, verdict, candidate_id=candidate_id)

    def gate(
        self,
        candidate_id,
        excess=0.0,
        *,
        structure=None,
        gap_job=None,
        proposer="gan",
        prescreen=None,
        references=None,
        band_gap=None,
        index=1,
        label="MgO periclase",
        **relaxed,
    ):
        """Store the verdict of a structure; ``excess`` is its energy above MgO, eV/atom."""
        fields = {
            "structure": structure or rocksalt(),
            "energy_per_atom": MGO_PER_ATOM + excess,
            "level_of_theory": helpers.CHGNET,
            "converged": True,
        }
        verdict = Verdict(
            candidate_id=candidate_id,
            relaxed_hash=candidate_id,
            origin=origin(proposer, label=label),
            structure=structure or rocksalt(),
            prescreen=prescreen,
            relaxed=RelaxedStructure(**(fields | relaxed)),
            assessment=Assessment(
                formation_energy_per_atom=-3,
                decomposition_energy=excess,
                reference_decomposition_energy=excess,
                decomposes_to={"MgO": 1},
            ),
            stage="synthesizable",
            references=(references or self.references).content_hash,
            band_gap_job=gap_job,
            band_gap=band_gap,
        )
        self.job(f"gate {candidate_id}", Step.GATE, verdict, index=index, candidate_id=candidate_id)

    def build(self):
        """Run both builders; return the ids of the changed candidates."""
        changed = set()
        for kind in (CandidateBuilder, StabilityBuilder):
            builder = kind(self.outputs, self.campaigns, self.candidates)
            builder.update_targets([builder.process_item(item) for item in builder.get_items()])
            if isinstance(builder, StabilityBuilder):
                builder.settle()
            changed |= builder.changed
        return changed

    def __getitem__(self, candidate_id):
        return CandidateStore(self.candidates).get(candidate_id)


def origin(proposer="gan", index=0, label="MgO periclase"):
    return Origin(
        proposer=proposer,
        requested_composition="MgO",
        index=index,
        label=label if proposer == "reference_phase" else None,
        checkpoint="checkpoint" if proposer == "gan" else None,
    )


@pytest.fixture
def lab():
    return Laboratory()
