"""Stores as jobs leave them, with builders over them."""

from __future__ import annotations

import pytest
from maggma.stores import MemoryStore
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from gan_htvs.builders.candidates import CandidateBuilder
from gan_htvs.builders.stability import StabilityBuilder
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import (
    Assessment,
    Hurdle,
    Origin,
    Prescreened,
    Proposal,
    Relaxed,
    Stage,
    Step,
    Verdict,
)
from gan_htvs.store import CandidateStore
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

SETTINGS = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}
LEVEL = "CHGNet-0.3.0"
MGO_PER_ATOM = -6.314


def references(level=LEVEL, **more):
    energies = {"Mg": -1.58, "O2": -4.94795546875, "MgO": MGO_PER_ATOM} | more
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory=level)
            for f, e in energies.items()
        )
    )


def cubic(a, *sites):
    """Primitive cell of a face-centred cubic crystal."""
    symbols, coordinates = zip(*sites, strict=True)
    return Structure(Lattice.rhombohedral(a / 2**0.5, 60), symbols, [[x] * 3 for x in coordinates])


def rocksalt(metal="Mg", a=4.21):
    return cubic(a, (metal, 0), ("O", 0.5))


def zincblende(metal="Mg", a=4.6):
    return cubic(a, (metal, 0), ("O", 0.25))


def fluorite():
    """MgO2, which no reference has."""
    return cubic(5.0, ("Mg", 0), ("O", 0.25), ("O", 0.75))


class Laboratory:
    """Stores, and what jobs and builders do to them."""

    def __init__(self, stores=None):
        keys = {
            "outputs": "uuid",
            "campaigns": "name",
            "stability": "candidate_id",
            "candidates": "candidate_id",
        }
        stores = stores or {name: MemoryStore(key=key) for name, key in keys.items()}
        for name, store in stores.items():
            store.connect()
            setattr(self, name, store)
        self.clock = 0
        self.configure(SETTINGS)
        self.job("references", Step.REFERENCES, references())

    def configure(self, settings):
        campaign = Campaign.model_validate(settings)
        self.campaigns.update(
            [{"name": campaign.name, "settings": campaign.model_dump(mode="json")}]
        )

    def job(self, uuid, step, output, **metadata):
        self.clock += 1
        self.outputs.update(
            [
                {
                    "uuid": uuid,
                    "completed_at": f"2026-01-01T00:{self.clock // 60:02d}:{self.clock % 60:02d}",
                    "metadata": {"campaign": "mg-o", "step": step.value, **metadata},
                    "output": jsanitize(output, strict=True, enum_values=True),
                }
            ]
        )

    def propose(self, *ids):
        proposals = [
            Proposal(candidate_id=candidate_id, structure=rocksalt(), origin=origin(index=i))
            for i, candidate_id in enumerate(ids)
        ]
        self.job(f"propose {ids}", Step.PROPOSE, {"proposals": proposals})

    def leave(self, candidate_id, hurdle=Hurdle.WINDOW, **more):
        """Leave what a prescreen leaves of a structure that it sends no further."""
        verdict = Verdict(
            candidate_id=candidate_id,
            origin=origin(),
            prescreen=Prescreened(candidate_id=candidate_id, hurdle=hurdle, **more),
            stage=Stage.REJECTED,
            reason=f"{hurdle}: too high",
            references="references",
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
        **relaxed,
    ):
        """Leave what a gate leaves of a structure with this energy beside that of MgO, eV/atom."""
        fields = {
            "structure": structure or rocksalt(),
            "energy_per_atom": MGO_PER_ATOM + excess,
            "level_of_theory": LEVEL,
            "converged": True,
        }
        verdict = Verdict(
            candidate_id=candidate_id,
            origin=origin(proposer),
            prescreen=prescreen,
            relaxed=Relaxed(**(fields | relaxed)),
            assessment=Assessment(
                formation_energy_per_atom=-3, energy_above_hull=excess, decomposes_to={"MgO": 1}
            ),
            stage=Stage.STABLE,
            references="references",
            band_gap_job=gap_job,
        )
        self.job(f"gate {candidate_id}", Step.GATE, verdict, candidate_id=candidate_id)

    def build(self):
        """Run both builders and return the ids of the candidates that changed."""
        self.sort()
        builder = CandidateBuilder(self.outputs, self.campaigns, self.stability, self.candidates)
        documents = [builder.process_item(item) for item in builder.get_items()]
        builder.update_targets(documents)
        return {document["candidate_id"] for document in documents}

    def sort(self):
        builder = StabilityBuilder(self.outputs, self.campaigns, self.stability)
        builder.update_targets([builder.process_item(item) for item in builder.get_items()])
        builder.settle()

    def __getitem__(self, candidate_id):
        return CandidateStore(self.candidates).get(candidate_id)


def origin(proposer="gan", index=0):
    label = "MgO periclase" if proposer == "known_phase" else None
    return Origin(
        proposer=proposer,
        requested_composition="MgO",
        index=index,
        label=label,
        checkpoint="checkpoint" if proposer == "gan" else None,
    )


@pytest.fixture
def lab():
    return Laboratory()
