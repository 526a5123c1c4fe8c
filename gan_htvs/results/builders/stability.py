"""Builder of duplicates, novelty and stability of all ``candidates``."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pymongo import UpdateOne

from gan_htvs import __version__
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import REFERENCE_PHASE
from gan_htvs.results.builders.job_outputs import (
    BaseCandidateBuilder,
    stored_campaigns,
    stored_candidates,
    stored_reference_sets,
)
from gan_htvs.results.builders.placement import Row, place_all
from gan_htvs.results.builders.training_sets import TrainingSets
from gan_htvs.structures.crystals import (
    RelaxedCandidate,
    TrainingSet,
    group_crystals,
    look_up,
)
from gan_htvs.structures.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymatgen.core import Structure

COMPARISON_FIELDS = (
    *("stage", "reason", "missing_property", "novelty", "duplicate_of", "duplicates"),
    *("formation_energy_per_atom", "energy_above_hull", "decomposition_energy"),
    *("reference_decomposition_energy", "decomposes_to", "pourbaix", "uncovered_subsystems"),
)
"""Fields that depend on other candidates, and the stage that follows from them."""

ROW_FIELDS = (
    *("candidate_id", "campaign", "formula_pretty", "level_of_theory", "energy_per_atom"),
    *("origin.proposer", "origin.label", "gate.references", "builder_meta", *COMPARISON_FIELDS),
    *(f"band_gap_result.{name}" for name in ("band_gap", "is_complete", "reason")),
    *("band_gap", "density", "volume_per_atom", "total_magnetization", "symmetry.number"),
    "oxidation_states.average",
    "properties",
)
"""Fields needed for the hull, for the stages, and to detect documents that are out of date."""

STRUCTURE_FIELDS = (
    *("campaign", "structure", "level_of_theory", "energy_per_atom", "origin"),
    *("gate.is_plausible", "gate.references"),
)
"""Fields needed to find duplicates and novelty."""

Fields = dict[str, Any]
"""Fields of a candidate document."""


class Item(NamedTuple):
    """Candidates of one reduced formula, with all that their comparison depends on."""

    group: str
    """Hash of these inputs."""
    candidates: dict[str, Fields]
    """Fields :data:`STRUCTURE_FIELDS` of each candidate."""
    training: dict[str, TrainingSet | None]
    """Training structures by campaign; None: unknown."""


class StabilityBuilder(BaseCandidateBuilder):
    """Compare all candidates that have an energy with one another.

    Duplicates and novelty are determined formula by formula, and only for formulas with new
    relaxed structures. Then :meth:`finalize` computes energies above the hull, one hull per level
    of theory, and Pourbaix decomposition energies of all candidates, and writes what changed. The
    result depends only on the stored outputs, not on the order of their arrival: jobs may finish
    meanwhile, and runs may be interrupted or repeated.
    """

    def get_items(self) -> Iterator[Item]:
        """Yield the formulas whose relaxed structures or training sets changed."""
        self._crystals: dict[str, Fields] = {}
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows():
            groups[row["formula_pretty"]].append(row)
        training_sets = TrainingSets(self.outputs, self.candidates)
        hashes = {
            formula: _group_hash(rows, training_sets.checkpoints)
            for formula, rows in groups.items()
        }
        stale = sorted(
            formula
            for formula, rows in groups.items()
            if any(row["builder_meta"].get("group") != hashes[formula] for row in rows)
        )
        self.total = len(stale)
        for formula in stale:
            ids = [row["candidate_id"] for row in groups[formula]]
            candidates = stored_candidates(self.candidates, ids, STRUCTURE_FIELDS)
            training = {
                name: training_sets.get(name, formula) for name in training_sets.checkpoints
            }
            yield Item(hashes[formula], candidates, training)

    def process_item(self, item: Item) -> dict[str, Fields]:
        """Determine duplicates and novelty of the candidates of one formula."""
        crystals = compare_structures(item.candidates, item.training)
        return {name: fields | {"group": item.group} for name, fields in crystals.items()}

    def update_targets(self, items: list[dict[str, Fields]]) -> None:
        """Collect duplicates and novelty, which :meth:`settle` writes."""
        for crystals in items:
            self._crystals |= crystals

    def finalize(self) -> None:
        """Write all changes, then close the stores."""
        self.settle()
        super().finalize()

    def settle(self) -> None:
        """Compute the stability of all candidates and write the changed fields."""
        rows = {row["candidate_id"]: row for row in self._rows()}
        changes = {name: self._crystals.get(name, {}) for name in rows}
        campaigns = {campaign.name: campaign for campaign in stored_campaigns(self.campaigns)}
        references = stored_reference_sets(self.outputs)
        compared = [row | changes[name] for name, row in rows.items()]
        for name, fields in place_all(compared, references, campaigns):
            changes[name] = changes[name] | fields
        updates = []
        for name, fields in changes.items():
            meta, group = rows[name]["builder_meta"], fields.pop("group", None)
            update = {key: value for key, value in fields.items() if rows[name].get(key) != value}
            if update:
                update["last_updated"] = datetime.now(UTC)
                self.changed.add(name)
            if group not in (None, meta.get("group")):
                update["builder_meta.group"] = group
            # Another builder may have replaced the document meanwhile.
            unchanged = {"candidate_id": name, "builder_meta.relaxed": meta["relaxed"]}
            if update:
                updates.append(UpdateOne(unchanged, {"$set": update}))
        if updates:
            # maggma replaces documents only as a whole.
            self.candidates._collection.bulk_write(updates, ordered=False)  # noqa: SLF001

    def _rows(self) -> list[Row]:
        """Read all candidates with an energy, without structures."""
        rows = self.candidates.query({"energy_per_atom": {"$ne": None}}, list(ROW_FIELDS))
        return sorted(rows, key=itemgetter("candidate_id"))


def compare_structures(
    candidates: Mapping[str, Fields], training: Mapping[str, TrainingSet | None]
) -> dict[str, Fields]:
    """Determine duplicates and novelty of the candidates of one reduced formula.

    Parameters
    ----------
    candidates
        Fields :data:`STRUCTURE_FIELDS` of each candidate, by id.
    training
        Training structures of the formula, by campaign; None: unknown.

    Returns
    -------
    Fields ``novelty``, ``duplicate_of`` and ``duplicates`` of each candidate, by id.
    """
    fields: dict[str, Fields] = {
        name: {"novelty": None, "duplicate_of": None, "duplicates": []} for name in candidates
    }
    by_set: dict[tuple[str, str], list[RelaxedCandidate]] = defaultdict(list)
    # Energies are comparable only within a level of theory.
    by_level: dict[str, list[RelaxedCandidate]] = defaultdict(list)
    phases: dict[str, dict[str, Structure]] = defaultdict(dict)
    for name, candidate in sorted(candidates.items()):
        structure = decode(candidate["structure"])
        references = candidate["gate"]["references"] or ""
        if candidate["origin"]["proposer"] == REFERENCE_PHASE:
            phases[references][candidate["origin"]["label"] or name] = structure
        elif candidate["gate"]["is_plausible"]:
            relaxed = RelaxedCandidate(
                name, Fingerprint.from_structure(structure), candidate["energy_per_atom"]
            )
            by_set[candidate["campaign"], references].append(relaxed)
            by_level[candidate["level_of_theory"]].append(relaxed)
    for (campaign, references), members in by_set.items():
        known: dict[str, Structure] = {}
        # The phases of its own reference set come first.
        for name in (references, *sorted(phases.keys() - {references})):
            known = known | {k: v for k, v in sorted(phases[name].items()) if k not in known}
        novelties = look_up(members, known, training[campaign])
        for name, novelty in novelties.items():
            fields[name]["novelty"] = novelty.model_dump()
    for members in by_level.values():
        for lowest, *duplicates in group_crystals(members):
            fields[lowest]["duplicates"] = duplicates
            for name in duplicates:
                fields[name]["duplicate_of"] = lowest
    return fields


def _group_hash(rows: Sequence[Row], checkpoints: Mapping[str, Any]) -> str:
    """Return a hash of everything that determines duplicates and novelty for one formula."""
    return content_hash(
        __version__,
        [(row["candidate_id"], row["builder_meta"]["relaxed"]) for row in rows],
        {row["campaign"]: checkpoints[row["campaign"]] for row in rows},
    )
