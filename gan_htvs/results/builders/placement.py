"""Stability of all candidates: decomposition energies on the hull and in aqueous solution."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.candidate import Assessment
from gan_htvs.core.errors import UserError
from gan_htvs.core.properties import BAND_GAP, IS_NOVEL
from gan_htvs.core.shares import round_shares
from gan_htvs.core.stages import REFERENCE_PHASE, Stage
from gan_htvs.results.funnel import crystal_id
from gan_htvs.thermodynamics.assessment import decide
from gan_htvs.thermodynamics.joint_hull import compare_on_hull
from gan_htvs.thermodynamics.merging import SAME_ENERGY
from gan_htvs.thermodynamics.plausibility import lowest_plausible
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.pourbaix_stability import PourbaixSettings, PourbaixStability
    from gan_htvs.thermodynamics.hull import ReferenceSet

DIGITS = 9
"""Decimals of energies, eV/atom: rounding errors must not change documents."""

PLAUSIBLE_ONLY = ("energy_above_hull", "decomposition_energy", "decomposes_to")
"""Fields that candidates with an implausible energy do not have."""

Row = dict[str, Any]
"""Candidate document without structures."""

Fields = dict[str, Any]
"""Fields of a candidate document that depend on all candidates."""


def place_all(
    candidates: Sequence[Row],
    references: Mapping[str, ReferenceSet],
    campaigns: Mapping[str, Campaign],
) -> Iterator[tuple[str, Fields]]:
    """Compute stability and stage of candidates on the hull of their references and all candidates.

    Parameters
    ----------
    candidates
        Candidates with an energy, in a reproducible order.
    references
        Reference sets, by content hash.
    campaigns
        Campaigns by name. Candidates of other campaigns compete on the hull but get no stage.

    Yields
    ------
    The id of each candidate, and the fields of its document.
    """
    for name in sorted({candidate["gate"]["references"] or "" for candidate in candidates}):
        reasons = _incomparable(candidates, name, references.get(name))
        for candidate in candidates:
            reason = reasons[_key(candidate)]
            has_references = (candidate["gate"]["references"] or "") == name
            if reason and has_references and candidate["campaign"] in campaigns:
                yield candidate["candidate_id"], _without_energies(reason)
        # Candidates with other references also compete; they are placed with their own references.
        comparable = [candidate for candidate in candidates if not reasons[_key(candidate)]]
        if comparable:
            yield from _place(comparable, references[name], campaigns)


def _key(candidate: Row) -> tuple[str, str]:
    return candidate["level_of_theory"], candidate["formula_pretty"]


def _incomparable(
    candidates: Sequence[Row], name: str, references: ReferenceSet | None
) -> dict[tuple[str, str], str | None]:
    """Return, by level of theory and formula, why energies cannot be compared; None if they can."""
    keys = set(map(_key, candidates))
    if references is None:
        return dict.fromkeys(keys, f"its reference set {name or '(none)'} is not stored")
    reasons: dict[tuple[str, str], str | None] = dict.fromkeys(keys)
    for level, formula in keys:
        try:
            references.check_level(level)
            references.fractions([formula])
        except UserError as error:
            reasons[level, formula] = str(error)
    return reasons


def _without_energies(reason: str) -> Fields:
    names = Assessment.model_fields.keys() | Assessment.model_computed_fields.keys()
    fields: Fields = dict.fromkeys(names - {"pourbaix_reason"})
    return fields | {"stage": Stage.FAILED.value, "reason": reason, "missing_property": None}


def _place(
    candidates: Sequence[Row], references: ReferenceSet, campaigns: Mapping[str, Campaign]
) -> Iterator[tuple[str, Fields]]:
    """Compute the stability of the candidates that were evaluated with these references."""
    formulas = [candidate["formula_pretty"] for candidate in candidates]
    energies = np.array([candidate["energy_per_atom"] for candidate in candidates])
    has_references = np.array(
        [candidate["gate"]["references"] == references.content_hash for candidate in candidates]
    )
    into_references = references.decomposition_energies(formulas, energies)
    uncovered = {formula: references.uncovered(formula) for formula in set(formulas)}
    bounds = {name: campaign.lowest_decomposition_energy for name, campaign in campaigns.items()}
    lowest = [
        lowest_plausible(bounds.get(row["campaign"]), uncovered[formula])
        for row, formula in zip(candidates, formulas, strict=True)
    ]
    is_plausible = into_references >= lowest
    decomposition, decomposes_to = compare_on_hull(
        references,
        names=[f"{row['formula_pretty']} ({row['candidate_id']})" for row in candidates],
        formulas=formulas,
        energies=energies,
        crystals=[crystal_id(candidate) for candidate in candidates],
        competes=is_plausible,
        is_reference=is_plausible & _are_reference_phases(candidates, references),
    )
    formation = references.formation_energies_per_atom(formulas, energies)
    by_campaign: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero(has_references).tolist():
        by_campaign[candidates[i]["campaign"]].append(i)
    for name in by_campaign.keys() & campaigns.keys():
        members, campaign = by_campaign[name], campaigns[name]
        funnel = campaign.funnel
        stabilities = _pourbaix_stabilities(
            [formulas[i] for i in members],
            formation[members],
            references,
            campaign.aqueous_conditions,
        )
        for i, (stability, missing) in zip(members, stabilities, strict=True):
            # Skip validation: all values are computed here.
            assessment = Assessment.model_construct(
                formation_energy_per_atom=float(formation[i]),
                decomposition_energy=float(decomposition[i]),
                reference_decomposition_energy=float(into_references[i]),
                decomposes_to=decomposes_to[i],
                uncovered_subsystems=uncovered[formulas[i]],
                pourbaix=stability,
                pourbaix_reason=missing,
            )
            decision = decide(
                assessment,
                funnel,
                candidates[i],
                lowest_decomposition_energy=bounds[name],
                reasons=_reasons(candidates[i]),
            )
            encoded = assessment.model_dump_json(exclude={"pourbaix_reason"})
            # Adding zero turns a negative zero into zero.
            rounded = json.loads(encoded, parse_float=lambda text: round(float(text), DIGITS) + 0.0)
            rounded["decomposes_to"] = round_shares(decomposes_to[i], DIGITS)
            if not is_plausible[i]:
                rounded |= dict.fromkeys(PLAUSIBLE_ONLY)
            decided = {
                "stage": str(decision.stage),
                "reason": decision.reason,
                "missing_property": decision.missing,
            }
            yield candidates[i]["candidate_id"], rounded | decided


def _are_reference_phases(candidates: Sequence[Row], references: ReferenceSet) -> NDArray[np.bool_]:
    """Return which candidates are a phase of this reference set, or the same crystal as one.

    A structure that matches a reference phase but has a clearly lower energy is another crystal.
    """
    energies = {entry.name: entry.energy_per_atom for entry in references.entries}
    are_phases = []
    for row in candidates:
        if row["origin"]["proposer"] == REFERENCE_PHASE:
            label = row["origin"].get("label")
            is_member = row["gate"]["references"] == references.content_hash
        else:
            label = (row["novelty"] or {}).get("reference_match")
            is_member = False
        difference = row["energy_per_atom"] - energies.get(label, math.inf)
        are_phases.append(is_member or difference >= -SAME_ENERGY)
    return np.array(are_phases)


def _reasons(candidate: Row) -> dict[str, str | None]:
    """Return why properties of a candidate other than its stability are missing, by name."""
    results = candidate.get("properties") or {}
    reasons = {name: result["reason"] for name, result in results.items()}
    if stored_gap := candidate.get("band_gap_result"):
        reasons[BAND_GAP] = BandGapResult.model_construct(**stored_gap).shortcoming
    if candidate.get("novelty"):
        reasons[IS_NOVEL] = "the training structures of its generator are unknown"
    return reasons


def _pourbaix_stabilities(
    formulas: Sequence[str],
    formation: NDArray[np.float64],
    references: ReferenceSet,
    settings: PourbaixSettings | None,
) -> list[tuple[PourbaixStability | None, str | None]]:
    """Return the Pourbaix stability of each candidate, or the reason why it has none."""
    if settings is None:
        return [(None, None)] * len(formulas)
    try:
        analyzer = PourbaixAnalyzer(references, settings)
    except UserError as error:
        return [(None, str(error))] * len(formulas)
    reasons = {formula: analyzer.unavailable_reason(formula) for formula in set(formulas)}
    covered = [i for i, formula in enumerate(formulas) if reasons[formula] is None]
    stabilities = iter(analyzer.stabilities([formulas[i] for i in covered], formation[covered]))
    return [
        (None, reasons[formula]) if reasons[formula] else (next(stabilities), None)
        for formula in formulas
    ]
