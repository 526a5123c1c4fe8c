"""The notes of packs, in the JobStore of the job that is running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from flows.steps import store_outputs
from gan_htvs.descent import Descent
from gan_htvs.documents import decode
from gan_htvs.identity import content_uuid
from gan_htvs.prescreen.notes import Found

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pymatgen.core import Structure

SIMULTANEOUS = timedelta(seconds=10)
"""Claims closer than this may have been made without knowledge of each other; clocks differ."""


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
        found = CURRENT_JOB.store.query({"uuid": {"$in": list(uuids)}}, ["uuid", "output"])
        return {
            document["uuid"]: Descent.model_validate(decode(document["output"]))
            for document in found
        }

    def note(self, uuid: str, candidate_id: str, descent: Descent) -> None:
        """Write a relaxation down."""
        relaxed = descent.relaxed
        converged = relaxed is not None and relaxed.converged
        store_outputs(
            {uuid: descent},
            campaign=self.owner,
            note="descent",
            candidate_id=candidate_id,
            formula=relaxed.structure.composition.reduced_formula if relaxed else None,
            level_of_theory=relaxed.level_of_theory if relaxed and converged else None,
        )

    def claim(self, starts: Mapping[str, Structure]) -> dict[str, Structure]:
        """Announce what will be relaxed here; return what others announced before."""
        uuid = content_uuid("claim", self.owner, sorted(starts))
        formulas = sorted({each.composition.reduced_formula for each in starts.values()})
        mine = self._claims({"uuid": uuid})
        if not mine:
            output = {"starts": dict(starts), "claimed_at": datetime.now(UTC).isoformat()}
            store_outputs({uuid: output}, campaign=self.owner, note="claim", formulas=formulas)
            mine = self._claims({"uuid": uuid})
        claimed_at = mine[uuid]["claimed_at"]
        query = {"metadata.note": "claim", "metadata.formulas": {"$in": formulas}}
        before: dict[str, Structure] = {}
        for other, claim in sorted(self._claims(query).items()):
            ahead = claimed_at - claim["claimed_at"]
            is_first = ahead > SIMULTANEOUS or (abs(ahead) <= SIMULTANEOUS and other < uuid)
            if is_first and other != uuid:
                before |= claim["starts"]
        return {name: start for name, start in before.items() if name not in starts}

    def _claims(self, query: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        query = {"metadata.campaign": self.owner, **query}
        claims = {}
        for document in CURRENT_JOB.store.query(query, ["uuid", "output"]):
            claim = decode(document["output"])
            claim["claimed_at"] = datetime.fromisoformat(claim["claimed_at"])
            claims[document["uuid"]] = claim
        return claims

    def found(
        self, formulas: Collection[str], level_of_theory: str, but: Collection[str]
    ) -> list[Found]:
        """List what others have relaxed to the end, of some reduced formulas."""
        query = {
            "metadata.campaign": self.owner,
            "metadata.note": "descent",
            "metadata.formula": {"$in": list(formulas)},
            "metadata.level_of_theory": level_of_theory,
            "metadata.candidate_id": {"$nin": list(but)},
        }
        fields = [
            "metadata.candidate_id",
            "output.relaxed.structure",
            "output.relaxed.energy_per_atom",
        ]
        return [
            Found(
                document["metadata"]["candidate_id"],
                decode(document["output"]["relaxed"]["structure"]),
                document["output"]["relaxed"]["energy_per_atom"],
            )
            for document in CURRENT_JOB.store.query(query, fields)
        ]
