"""The notes of packs, in the JobStore of the job that is running."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from jobflow import CURRENT_JOB

from flows.steps import is_stored, store_outputs, stored_outputs
from gan_htvs.descent import Descent
from gan_htvs.documents import decode
from gan_htvs.identity import content_uuid
from gan_htvs.prescreen.notes import Found, is_sound

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pymatgen.core import Structure


class StoredNotes:
    """Notes that all packs of an owner read.

    Parameters
    ----------
    owner
        A campaign, or whom else the relaxations are made for.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def descents(self, uuids: Collection[str]) -> dict[str, Descent]:
        """Read the relaxations that are noted, by uuid."""
        found = stored_outputs(uuids)
        return {uuid: Descent.model_validate(output) for uuid, output in found.items()}

    def note(self, uuid: str, candidate_id: str, descent: Descent) -> None:
        """Write a relaxation down."""
        relaxed = descent.relaxed
        store_outputs(
            {uuid: descent},
            campaign=self.owner,
            note="descent",
            candidate_id=candidate_id,
            formula=relaxed.structure.composition.reduced_formula if relaxed else None,
            level_of_theory=relaxed.level_of_theory if relaxed and is_sound(descent) else None,
        )

    def claim(self, starts: Mapping[str, Structure]) -> dict[str, Structure]:
        """Announce what will be relaxed here; return what everybody announced."""
        uuid = content_uuid("claim", self.owner, sorted(starts))
        formulas = sorted({each.composition.reduced_formula for each in starts.values()})
        if not is_stored(uuid):
            output = {"starts": dict(starts), "claimed_at": datetime.now(UTC).isoformat()}
            store_outputs({uuid: output}, campaign=self.owner, note="claim", formulas=formulas)
        query = {
            "metadata.campaign": self.owner,
            "metadata.note": "claim",
            "metadata.formulas": {"$in": formulas},
        }
        claims = [
            (claim["output"]["claimed_at"], claim["uuid"], claim["output"]["starts"])
            for claim in CURRENT_JOB.store.query(query, ["uuid", "output"])
        ]
        claimed: dict[str, Structure] = {}
        for _, _, theirs in sorted(claims, key=itemgetter(0, 1)):
            # A lengthened shard claims again what it claimed when it was shorter.
            for name, start in theirs.items():
                if name not in claimed:
                    claimed[name] = decode(start)
        return claimed

    def found(self, formulas: Collection[str], level_of_theory: str) -> list[Found]:
        """List what everybody relaxed to a sound end with one potential, of reduced formulas."""
        query = {
            "metadata.campaign": self.owner,
            "metadata.note": "descent",
            "metadata.formula": {"$in": list(formulas)},
            "metadata.level_of_theory": level_of_theory,
        }
        fields = [
            "uuid",
            "completed_at",
            "metadata.candidate_id",
            "output.relaxed.structure",
            "output.relaxed.energy_per_atom",
        ]
        notes = CURRENT_JOB.store.query(query, fields)
        return [
            Found(
                note["metadata"]["candidate_id"],
                decode(note["output"]["relaxed"]["structure"]),
                note["output"]["relaxed"]["energy_per_atom"],
            )
            for note in sorted(notes, key=itemgetter("completed_at", "uuid"))
        ]
