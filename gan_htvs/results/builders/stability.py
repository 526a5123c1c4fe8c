"""Builder of duplicates, novelty and stability of all ``candidates``."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from maggma.utils import grouper

from gan_htvs import __version__
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import REFERENCE_PHASE
from gan_htvs.results.builders.job_outputs import (
    BaseCandidateBuilder,
    stored_campaigns,
    stored_candidates,
    stored_reference_sets,
)
from gan_htvs.results.builders.placement import CandidateSummary, place_all
from gan_htvs.results.builders.training_sets import TrainingSets
from gan_htvs.structures.crystals import RelaxedCandidate, group_crystals, look_up
from gan_htvs.structures.fingerprint import Fingerprint
from gan_htvs.thermodynamics.plausibility import is_plausible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HULL_FIELDS = (
    *("candidate_id", "campaign", "formula_pretty", "level_of_theory", "energy_per_atom"),
    *("duplicate_of", "origin.proposer", "gate.references", "builder_meta"),
)
"""Fields needed for the hull and to detect documents that are out of date."""

STRUCTURE_FIELDS = (
    *("campaign", "structure", "level_of_theory", "energy_per_atom", "origin"),
    "gate.energy_above_hull",
)
"""Fields needed to find duplicates and novelty."""

ID_CHUNK = 500
"""Number of candidates read and written at a time."""

Item = dict[str, Any]
"""Inputs of one formula: ``group`` (their hash), ``candidates``, and ``training`` structures by
campaign."""


class StabilityBuilder(BaseCandidateBuilder):
    """Compare all candidates that have an energy with one another.

    Duplicates and novelty are determined formula by formula, and only for formulas with new
    relaxed structures. Then :meth:`finalize` computes energies above the hull, one hull per level
    of theory, and Pourbaix decomposition energies, and writes the documents whose values changed.
    The result depends only on the stored outputs, not on the order of their arrival: jobs may
    finish meanwhile, and runs may be interrupted or repeated.
    """

    def get_items(self) -> Iterator[Item]:
        """Yield the formulas whose relaxed structures or training sets changed."""
        groups: dict[str, list[CandidateSummary]] = defaultdict(list)
        for candidate in self._comparable():
            groups[candidate["formula_pretty"]].append(candidate)
        training_sets = TrainingSets(self.outputs)
        checkpoints = {
            campaign: sorted(
                filter(None, self.candidates.distinct("origin.checkpoint", {"campaign": campaign}))
            )
            for campaign in self.candidates.distinct("campaign")
        }
        # Training sets may be stored after the candidates that are compared with them.
        training = {
            campaign: [(checkpoint, checkpoint in training_sets) for checkpoint in used]
            for campaign, used in checkpoints.items()
        }
        hashes = {formula: _group_hash(group, training) for formula, group in groups.items()}
        stale = sorted(
            formula
            for formula, group in groups.items()
            if any(candidate["builder_meta"].get("group") != hashes[formula] for candidate in group)
        )
        self.total = len(stale)
        for formula in stale:
            ids = [candidate["candidate_id"] for candidate in groups[formula]]
            yield {
                "group": hashes[formula],
                "candidates": stored_candidates(self.candidates, ids, STRUCTURE_FIELDS),
                "training": {
                    campaign: (bool(used), training_sets.get(used, formula))
                    for campaign, used in checkpoints.items()
                },
            }

    def process_item(self, item: Item) -> Item:
        """Determine duplicates and novelty of the candidates of one formula."""
        changes: dict[str, dict[str, Any]] = {
            candidate_id: {"novelty": None, "duplicate_of": None, "duplicates": []}
            for candidate_id in item["candidates"]
        }
        by_campaign: dict[str, list[RelaxedCandidate]] = defaultdict(list)
        # Energies are comparable only within a level of theory.
        by_level: dict[str, list[RelaxedCandidate]] = defaultdict(list)
        reference_phases = {}
        for candidate_id, candidate in sorted(item["candidates"].items()):
            structure = decode(candidate["structure"])
            above_hull = candidate["gate"]["energy_above_hull"]
            if candidate["origin"]["proposer"] == REFERENCE_PHASE:
                reference_phases[candidate["origin"]["label"] or candidate_id] = structure
            elif above_hull is not None and is_plausible(above_hull):
                relaxed = RelaxedCandidate(
                    candidate_id,
                    Fingerprint.from_structure(structure),
                    candidate["energy_per_atom"],
                )
                by_campaign[candidate["campaign"]].append(relaxed)
                by_level[candidate["level_of_theory"]].append(relaxed)
        for campaign, members in by_campaign.items():
            has_generator, training = item["training"][campaign]
            novelties = look_up(members, reference_phases, training, has_generator=has_generator)
            for candidate_id, novelty in novelties.items():
                changes[candidate_id]["novelty"] = novelty.model_dump()
        for members in by_level.values():
            for crystal in group_crystals(members):
                lowest, *duplicates = crystal
                changes[lowest]["duplicates"] = duplicates
                for candidate_id in duplicates:
                    changes[candidate_id]["duplicate_of"] = lowest
        return {"group": item["group"], "changes": changes}

    def update_targets(self, items: list[Item]) -> None:
        """Write duplicates and novelty; :meth:`settle` writes the energies."""
        hashes = {name: item["group"] for item in items for name in item["changes"]}
        changes = {name: fields for item in items for name, fields in item["changes"].items()}
        self._write("group", hashes, lambda document: changes[document["candidate_id"]])

    def finalize(self) -> None:
        """Compute stabilities, then close the stores."""
        self.settle()
        super().finalize()

    def settle(self) -> None:
        """Compute the stability of all candidates and write the changed documents."""
        candidates = self._comparable()
        campaigns = {campaign.name: campaign for campaign in stored_campaigns(self.campaigns)}
        pourbaix = {name: campaign.pourbaix for name, campaign in campaigns.items()}
        placements = dict(place_all(candidates, stored_reference_sets(self.outputs), pourbaix))
        stored = {
            candidate["candidate_id"]: candidate["builder_meta"].get("numbers")
            for candidate in candidates
        }
        hashes = {candidate_id: placement.hash for candidate_id, placement in placements.items()}

        def stability_fields(document: dict[str, Any]) -> dict[str, Any]:
            thresholds = campaigns[document["campaign"]].thresholds
            gap = decode(document["band_gap_result"])
            return placements[document["candidate_id"]].fields(
                gap and BandGapResult.model_validate(gap), thresholds
            )

        changed = {name: value for name, value in hashes.items() if stored[name] != value}
        self._write("numbers", changed, stability_fields)

    def _write(
        self,
        name: str,
        hashes: Mapping[str, str],
        fields_of: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        """Write fields into documents, and the hash of their inputs into ``builder_meta``."""
        for ids in grouper(sorted(hashes), ID_CHUNK):
            documents = [
                document
                for document in stored_candidates(self.candidates, ids).values()
                if document["energy_per_atom"] is not None  # another builder may run concurrently
            ]
            for document in documents:
                document["builder_meta"][name] = hashes[document["candidate_id"]]
                fields = fields_of(document)
                if any(document[key] != value for key, value in fields.items()):
                    document.update(fields, last_updated=datetime.now(UTC))
                    self.changed.add(document["candidate_id"])
            self.candidates.update(documents, key="candidate_id")

    def _comparable(self) -> list[CandidateSummary]:
        """Read the summaries of all candidates with an energy."""
        summaries = self.candidates.query({"energy_per_atom": {"$ne": None}}, list(HULL_FIELDS))
        return sorted(summaries, key=itemgetter("candidate_id"))


def _group_hash(candidates: Sequence[CandidateSummary], training: Mapping[str, Any]) -> str:
    """Return a hash of everything that determines duplicates and novelty for one formula."""
    campaigns = {candidate["campaign"] for candidate in candidates}
    return content_hash(
        __version__,
        [
            (candidate["candidate_id"], candidate["builder_meta"]["relaxed"])
            for candidate in candidates
        ],
        {campaign: training[campaign] for campaign in campaigns},
    )
