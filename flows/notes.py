"""The notes of packs and shards, in the JobStore of the job that is running."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

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
    """Notes that all packs and shards of an owner read.

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
        self._announce("claim", uuid, {"starts": dict(starts)}, formulas=formulas)
        claimed: dict[str, Structure] = {}
        for _, theirs in self._announced("claim", formulas={"$in": formulas}):
            # A pack that was made again claims again.
            for name, start in theirs["starts"].items():
                if name not in claimed:
                    claimed[name] = decode(start)
        return claimed

    def send(self, shard: str, stream: str, gates: Collection[str]) -> set[str]:
        """Announce the gates that a shard sends its candidates to; return those left to it.

        Shards of different lengths begin with the same candidates. The one that announced a gate
        first sends the candidate, every time it runs: killed before its jobs were queued, it
        sends them when it is taken up. The others never do, whether those jobs have run or wait.

        Parameters
        ----------
        shard
            uuid of the job of the shard.
        stream
            What it samples.
        gates
            uuids of the gates of all its candidates.
        """
        mine = content_uuid("sending", shard)
        self._announce("sending", mine, {"gates": [*gates]}, stream=stream)
        first: dict[str, str] = {}
        for sender, theirs in self._announced("sending", stream=stream):
            for gate in theirs["gates"]:
                first.setdefault(gate, sender)
        return {gate for gate in gates if first.get(gate, mine) == mine}

    def _announce(self, note: str, uuid: str, output: dict[str, Any], **metadata: Any) -> None:
        """Write down what will be done, once, with the time."""
        if not is_stored(uuid):
            output = output | {"claimed_at": datetime.now(UTC).isoformat()}
            store_outputs({uuid: output}, campaign=self.owner, note=note, **metadata)

    def _announced(self, note: str, **metadata: Any) -> list[tuple[str, dict[str, Any]]]:
        """Read what everybody announced, by uuid, in an order that is the same for all."""
        query = {"metadata.campaign": self.owner, "metadata.note": note}
        query |= {f"metadata.{name}": value for name, value in metadata.items()}
        found = [
            (each["output"]["claimed_at"], each["uuid"], each["output"])
            for each in CURRENT_JOB.store.query(query, ["uuid", "output"])
        ]
        return [(uuid, output) for _, uuid, output in sorted(found, key=itemgetter(0, 1))]

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
