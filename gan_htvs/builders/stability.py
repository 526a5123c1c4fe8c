"""Builder: gates -> ``stability``: duplicates, novelty, and the final hull of everything found."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from maggma.core import Builder, Store
from maggma.utils import grouper
from pydantic import ValidationError
from pymatgen.core import Composition

from gan_htvs import __version__
from gan_htvs.assessment import Judge
from gan_htvs.builders.documents import (
    VERSIONS,
    latest_gates,
    mapping,
    outputs_by_uuid,
    stored_campaigns,
    stored_reference_sets,
)
from gan_htvs.builders.placement import Placement, place_all
from gan_htvs.builders.training_sets import TrainingSets
from gan_htvs.candidate import Stability, Stage, Verdict
from gan_htvs.crystals import RelaxedCandidate, look_up, sort_into_crystals
from gan_htvs.documents import decode, encode, without_id
from gan_htvs.errors import UserError
from gan_htvs.fingerprint import Fingerprint
from gan_htvs.identity import content_hash
from gan_htvs.settings import first_problem
from gan_htvs.words import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gan_htvs.candidate import RelaxedStructure
    from gan_htvs.thermodynamics.hull import ReferenceSet

PLACE = ("assessment", "energy_above_references", "reason")
"""Fields of a sound candidate that come from its place among all others."""

ID_CHUNK = 500
"""Candidates that are asked for or written at a time."""

NO_FORMULA = ""
"""Formula of a candidate that left before it was relaxed, or failed."""


class Member(NamedTuple):
    """A gated candidate: where its gate's output is, and a name for all that is read of it."""

    candidate_id: str
    campaign: str
    uuid: str
    inputs: str


Item = dict[str, Any]
"""``formula``, its ``state``, its ``gates`` (member, stored output), ``training`` structures by
campaign, and ``references`` by the hash of their content."""


class StabilityBuilder(Builder):
    """Compare all gated candidates with one another.

    Which candidates are the same crystal, and which known one, is decided formula by formula, and
    again only where a formula has a new gate. When all are sorted, :meth:`finalize` places
    everything on one hull for each level of theory and in water, and writes the documents whose
    numbers changed. The result depends on what is stored, not on the order in which it came, so
    jobs may go on arriving, and runs may be cut off or repeated.

    Parameters
    ----------
    outputs
        Documents of the JobStore, keyed by ``uuid``.
    campaigns
        Campaign settings, keyed by ``name``.
    stability
        Target, keyed by ``candidate_id``.
    chunk_size
        Formulas that are in memory at a time.
    """

    def __init__(
        self, outputs: Store, campaigns: Store, stability: Store, chunk_size: int = 10
    ) -> None:
        self.outputs = outputs
        self.campaigns = campaigns
        self.stability = stability
        super().__init__([outputs, campaigns], [stability], chunk_size)

    def ensure_indexes(self) -> None:
        """Make the indexes that it needs."""
        self.outputs.ensure_index("uuid")
        self.outputs.ensure_index("metadata.campaign")
        self.stability.ensure_index("candidate_id", unique=True)

    def get_items(self) -> Iterator[Item]:
        """Yield every formula whose documents do not show the gates that it has now."""
        self.ensure_indexes()
        fields = ["candidate_id", "formula_pretty", "builder_meta.inputs", "builder_meta.state"]
        built = {
            document["candidate_id"]: document["builder_meta"]
            | {"formula": document["formula_pretty"]}
            for document in self.stability.query({}, fields)
        }
        gates = self._gates()
        learnt = _checkpoints(gates)
        members = self._members(gates, learnt)
        fresh = [m for m in members if built.get(m.candidate_id, {}).get("inputs") != m.inputs]
        formulas = {candidate_id: meta["formula"] for candidate_id, meta in built.items()}
        formulas |= self._formulas(fresh)
        groups: dict[str, list[Member]] = defaultdict(list)
        for member in members:
            groups[formulas[member.candidate_id]].append(member)
        # Whoever left without a structure is compared with nobody, and there are many of them.
        without = {member.candidate_id for member in groups.pop(NO_FORMULA, [])}
        alone = list(grouper((m for m in fresh if m.candidate_id in without), ID_CHUNK))
        # Of the whole formula: another builder that began before the last gate came, and ended
        # after this one, is found out by it.
        states = {formula: _state(group) for formula, group in groups.items()}
        stale = sorted(
            formula
            for formula, group in groups.items()
            if any(built.get(m.candidate_id, {}).get("state") != states[formula] for m in group)
        )
        self.total = len(stale) + len(alone)
        for formula in stale:
            yield self._item(formula, groups[formula], learnt)
        for chunk in alone:
            yield self._item(NO_FORMULA, chunk, learnt)

    def process_item(self, item: Item) -> list[dict[str, Any]]:
        """Sort the candidates of one formula into crystals and look for each among the known."""
        documents: dict[str, Stability] = {}
        believed: list[RelaxedCandidate] = []
        known_phases = {}
        for member, output in item["gates"]:
            document = documents[member.candidate_id] = Stability(
                candidate_id=member.candidate_id,
                campaign=member.campaign,
                gate=member.uuid,
                references="",
                formula_pretty=item["formula"],
                last_updated=datetime.now(UTC),
                builder_meta=VERSIONS | {"inputs": member.inputs, "state": item["state"]},
            )
            relaxed = _read(output, document)
            if relaxed is None:
                continue
            if document.is_known_phase:
                label = (output["origin"] or {}).get("label")
                known_phases[label or member.candidate_id] = relaxed.structure
            elif _is_believed(document, item["references"]):
                fingerprint = Fingerprint.of(relaxed.structure)
                believed.append(
                    RelaxedCandidate(member.candidate_id, fingerprint, relaxed.energy_per_atom)
                )
        for campaign, (learnt, training) in item["training"].items():
            own = [each for each in believed if documents[each.candidate_id].campaign == campaign]
            novelties = look_up(own, known_phases, training, learnt=learnt)
            for candidate_id, novelty in novelties.items():
                documents[candidate_id].novelty = novelty
        # Energies of different levels of theory do not tell which is the lowest.
        for level in {documents[each.candidate_id].level_of_theory for each in believed}:
            own = [
                each for each in believed if documents[each.candidate_id].level_of_theory == level
            ]
            for crystal in sort_into_crystals(own):
                documents[crystal.candidate_id].duplicates = crystal.duplicates
                for candidate_id in crystal.duplicates:
                    documents[candidate_id].duplicate_of = crystal.candidate_id
        return [encode(document) for document in documents.values()]

    def update_targets(self, items: list[list[dict[str, Any]]]) -> None:
        """Write the documents that differ from the stored ones; their energies follow."""
        for documents in grouper((document for item in items for document in item), ID_CHUNK):
            stored = self._stored(document["candidate_id"] for document in documents)
            changed = []
            for document in documents:
                before = stored.get(document["candidate_id"])
                if before is not None:
                    if document["stage"] is None and before["stage"] is None:
                        # Its place on the hull stands until all are placed again.
                        for field in PLACE:
                            document[field] = before[field]
                        numbers = before["builder_meta"].get("numbers")
                        document["builder_meta"]["numbers"] = numbers
                    if not _differs(before, document, "last_updated"):
                        continue
                    if not _differs(before, document, "last_updated", "builder_meta"):
                        # Sorted again, with nothing new about it for anybody to take up.
                        document["last_updated"] = before["last_updated"]
                changed.append(document)
            if changed:
                self.stability.update(changed, key="candidate_id")

    def finalize(self) -> None:
        """Place everything on its hull, then close the stores."""
        self.settle()
        super().finalize()

    def settle(self) -> None:
        """Compute all energies above the hulls and in water, and write those that changed."""
        fields = ["candidate_id", "campaign", "references", "formula_pretty", "is_known_phase"]
        fields += ["level_of_theory", "energy_per_atom", "duplicate_of", "builder_meta.numbers"]
        sound = list(self.stability.query({"stage": None}, fields))
        sound.sort(key=lambda document: document["candidate_id"])
        pourbaix = {
            campaign.name: campaign.pourbaix for campaign in stored_campaigns(self.campaigns)
        }
        references = self._references({document["references"] for document in sound})
        self._write(
            dict(place_all(sound, references, pourbaix)),
            {d["candidate_id"]: d["builder_meta"].get("numbers") for d in sound},
        )

    def _write(self, placements: dict[str, Placement], before: dict[str, str | None]) -> None:
        hashes = {candidate_id: placement.hash for candidate_id, placement in placements.items()}
        changed = [each for each in sorted(hashes) if before[each] != hashes[each]]
        for ids in grouper(changed, ID_CHUNK):
            documents = list(self._stored(ids).values())
            for document in documents:
                candidate_id = document["candidate_id"]
                document.update(placements[candidate_id].fields())
                document["last_updated"] = datetime.now(UTC)
                document["builder_meta"]["numbers"] = hashes[candidate_id]
            self.stability.update(documents, key="candidate_id")

    def _stored(self, candidate_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        found = self.stability.query({"candidate_id": {"$in": sorted(candidate_ids)}})
        return {document["candidate_id"]: without_id(document) for document in found}

    def _gates(self) -> dict[str, dict[str, Any]]:
        """Find the gate of every candidate of every campaign."""
        names = [campaign.name for campaign in stored_campaigns(self.campaigns)]
        fields = ["output.references", "output.origin.checkpoint"]
        return latest_gates(self.outputs, names, fields)

    def _members(
        self, gates: Mapping[str, dict[str, Any]], learnt: Mapping[str, set[str]]
    ) -> list[Member]:
        """Name what is read of each candidate, in the order of their ids."""
        references = self._reference_sets.keys()
        # What a candidate is compared with may arrive after it.
        training = {
            campaign: [
                (checkpoint, checkpoint in self._training_sets) for checkpoint in sorted(own)
            ]
            for campaign, own in learnt.items()
        }
        members = []
        for candidate_id, gate in sorted(gates.items()):
            campaign = gate["metadata"]["campaign"]
            inputs = content_hash(
                __version__,
                gate["uuid"],
                str(gate.get("completed_at")),
                gate["output"].get("references") in references,
                training[campaign],
            )
            members.append(Member(candidate_id, campaign, gate["uuid"], inputs))
        return members

    def _formulas(self, members: Sequence[Member]) -> dict[str, str]:
        """Reduced formula of each gated structure, by candidate; "" where there is none."""
        formulas = {}
        for chunk in grouper(members, ID_CHUNK):
            by_uuid = {member.uuid: member.candidate_id for member in chunk}
            for document in self.outputs.query(
                {"uuid": {"$in": sorted(by_uuid)}}, ["uuid", "output.relaxed.structure.sites.label"]
            ):
                formulas[by_uuid[document["uuid"]]] = _formula(mapping(document))
        return {
            member.candidate_id: formulas.get(member.candidate_id, NO_FORMULA) for member in members
        }

    def _item(
        self, formula: str, members: Sequence[Member], learnt: Mapping[str, set[str]]
    ) -> Item:
        uuids = [member.uuid for member in members]
        outputs = outputs_by_uuid(self.outputs, uuids)
        references = {mapping({"output": output}).get("references") for output in outputs.values()}
        training = {
            campaign: (bool(learnt[campaign]), self._training_sets.of(learnt[campaign], formula))
            for campaign in {member.campaign for member in members}
        }
        return {
            "formula": formula,
            "state": _state(members),
            "gates": [(member, outputs.get(member.uuid)) for member in members],
            "training": training,
            "references": self._references(filter(None, references)),
        }

    def _references(self, hashes: Iterable[str]) -> dict[str, ReferenceSet]:
        known = self._reference_sets
        return {name: known[name] for name in sorted(set(hashes) & known.keys())}

    @cached_property
    def _reference_sets(self) -> dict[str, ReferenceSet]:
        return stored_reference_sets(self.outputs)

    @cached_property
    def _training_sets(self) -> TrainingSets:
        return TrainingSets(self.outputs)


def _read(output: Any, document: Stability) -> RelaxedStructure | None:
    """Read a gate's output into its document; None, with stage and reason, if it is of no use."""
    document.stage = Stage.FAILED
    if not isinstance(output, dict):
        document.reason = "its gate left no output"
        return None
    document.references = str(output.get("references") or "")
    try:
        verdict: Verdict = decode(output)
        relaxed, origin = verdict.relaxed, verdict.origin
        is_reference = origin is not None and origin.is_reference
        flaw = None if relaxed is None else Judge.soundness(relaxed, is_reference=is_reference)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other candidates go on
        problem = first_problem(error) if isinstance(error, ValidationError) else in_one_line(error)
        document.reason = f"its gate left what cannot be read: {problem}"
        return None
    if relaxed is None:
        document.stage, document.reason = verdict.stage, verdict.reason
        return None
    if flaw is not None:
        document.stage, document.reason = flaw
        return None
    document.stage = None
    document.is_known_phase = is_reference
    document.level_of_theory = relaxed.level_of_theory
    document.energy_per_atom = relaxed.energy_per_atom
    return relaxed


def _is_believed(document: Stability, references: Mapping[str, ReferenceSet]) -> bool:
    """Whether the energy can be compared and is no hole of a potential."""
    known = references.get(document.references)
    if known is None or document.level_of_theory != known.level_of_theory:
        return False
    try:
        above = known.energy_above_hull(
            document.formula_pretty or "", document.energy_per_atom or 0.0
        )
    except UserError:
        return False
    return Judge.believes(above)


def _formula(output: dict[str, Any]) -> str:
    """Reduced formula of a stored structure, from the labels of its sites; "" without one."""
    try:
        labels = [site["label"] for site in output["relaxed"]["structure"]["sites"]]
        return Composition({label: labels.count(label) for label in set(labels)}).reduced_formula
    except (KeyError, TypeError, ValueError):
        return NO_FORMULA


def _differs(before: dict[str, Any], now: dict[str, Any], *besides: str) -> bool:
    return any(before.get(key) != value for key, value in now.items() if key not in besides)


def _checkpoints(gates: Mapping[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Collect the generators that each campaign sampled from."""
    checkpoints: dict[str, set[str]] = defaultdict(set)
    for gate in gates.values():
        origin = gate["output"].get("origin") or {}
        checkpoints[gate["metadata"]["campaign"]] |= set(filter(None, [origin.get("checkpoint")]))
    return checkpoints


def _state(members: Sequence[Member]) -> str:
    """Name all gates of a formula."""
    return content_hash([(member.candidate_id, member.inputs) for member in members])
