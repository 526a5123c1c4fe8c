"""Stability of all candidates: energies above the hull and Pourbaix decomposition energies."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_htvs import __version__
from gan_htvs.core.candidate import Assessment
from gan_htvs.core.document import encode
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import REFERENCE_PHASE, Stage
from gan_htvs.results.funnel import crystal_id
from gan_htvs.thermodynamics.assessment import decide
from gan_htvs.thermodynamics.joint_hull import HullCandidates, compare_on_hull
from gan_htvs.thermodynamics.plausibility import LOWEST_PLAUSIBLE
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gan_htvs.campaign.model import Thresholds
    from gan_htvs.core.band_gap import BandGapResult
    from gan_htvs.core.pourbaix_stability import PourbaixSettings, PourbaixStability
    from gan_htvs.thermodynamics.hull import ReferenceSet

DIGITS = 9
"""Decimals of energies, eV/atom, that are compared."""

CandidateSummary = dict[str, Any]
"""Candidate document without structures and curves."""


@dataclass(frozen=True)
class Placement:
    """Stability of one candidate among all others, or the reason why it is unknown."""

    assessment: Assessment | None = None
    energy_above_references: float | None = None
    reason: str | None = None

    @property
    def hash(self) -> str:
        """Hash of the values, which is insensitive to rounding errors."""
        numbers = [self.assessment and encode(self.assessment), self.energy_above_references]
        rounded = json.loads(json.dumps(numbers), parse_float=lambda n: round(float(n), DIGITS))
        return content_hash(__version__, rounded, self.reason)

    def fields(self, gap: BandGapResult | None, thresholds: Thresholds) -> dict[str, Any]:
        """Return the fields of the candidate document, including its stage."""
        if self.assessment is None:
            fields: dict[str, Any] = dict.fromkeys(Assessment.model_fields)
            stage, reason = Stage.FAILED, self.reason
        else:
            fields = encode(self.assessment)
            stage, reason = decide(self.assessment, gap, thresholds)
        del fields["pourbaix_reason"]
        return fields | {
            "energy_above_references": self.energy_above_references,
            "stage": stage.value,
            "reason": reason,
        }


def place_all(
    candidates: Sequence[CandidateSummary],
    references: Mapping[str, ReferenceSet],
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    """Compute the stability of candidates on the hull of their references and all candidates.

    Parameters
    ----------
    candidates
        Candidates with an energy, in a reproducible order.
    references
        Reference sets, by content hash.
    pourbaix
        Pourbaix conditions, by campaign. Candidates of other campaigns compete on the hull but
        get no placement.

    Yields
    ------
    The id and placement of each candidate.
    """
    by_references: dict[str, list[CandidateSummary]] = defaultdict(list)
    for candidate in candidates:
        if candidate["campaign"] in pourbaix:
            by_references[candidate["gate"]["references"] or ""].append(candidate)
    for name, members in sorted(by_references.items()):
        if name not in references:
            placement = Placement(reason=f"its reference set {name or '(none)'} is not stored")
            yield from ((candidate["candidate_id"], placement) for candidate in members)
            continue
        reasons = _incomparable(candidates, references[name])
        for candidate in members:
            if reason := reasons[_key(candidate)]:
                yield candidate["candidate_id"], Placement(reason=reason)
        comparable = [candidate for candidate in members if not reasons[_key(candidate)]]
        # Candidates with other references also compete; they are placed with their own references.
        ids = {candidate["candidate_id"] for candidate in members}
        competitors = [
            candidate
            for candidate in candidates
            if candidate["candidate_id"] not in ids and not reasons[_key(candidate)]
        ]
        if comparable:
            yield from _place(comparable, competitors, references[name], pourbaix)


def _key(candidate: CandidateSummary) -> tuple[str, str]:
    return candidate["level_of_theory"], candidate["formula_pretty"]


def _incomparable(
    candidates: Sequence[CandidateSummary], references: ReferenceSet
) -> dict[tuple[str, str], str | None]:
    """Return, by level of theory and formula, why energies cannot be compared; None if they can."""
    reasons: dict[tuple[str, str], str | None] = {}
    for level, formula in set(map(_key, candidates)):
        try:
            references.check_level(level)
            references.fractions([formula])
            reasons[level, formula] = None
        except UserError as error:
            reasons[level, formula] = str(error)
    return reasons


def _place(
    candidates: Sequence[CandidateSummary],
    competitors: Sequence[CandidateSummary],
    references: ReferenceSet,
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    """Compute the stability of candidates among themselves and further competitors."""
    competing = [*candidates, *competitors]
    formulas = [candidate["formula_pretty"] for candidate in competing]
    energies = np.array([candidate["energy_per_atom"] for candidate in competing])
    above_references = references.energies_above_hull(formulas, energies)
    # Phases of this reference set are already on the hull; those of other sets compete.
    is_reference = [
        candidate["origin"]["proposer"] == REFERENCE_PHASE
        and candidate["gate"]["references"] == references.content_hash
        for candidate in competing
    ]
    distances = compare_on_hull(
        references,
        HullCandidates(
            names=[
                f"{candidate['formula_pretty']} ({candidate['candidate_id']})"
                for candidate in competing
            ],
            formulas=formulas,
            energies=energies,
            crystals=[crystal_id(candidate) for candidate in competing],
            competes=(above_references >= LOWEST_PLAUSIBLE) & ~np.array(is_reference),
        ),
    )
    formation = references.formation_energies_per_atom(formulas, energies)
    by_campaign: dict[str, list[int]] = defaultdict(list)
    for i, candidate in enumerate(candidates):
        by_campaign[candidate["campaign"]].append(i)
    for campaign, members in by_campaign.items():
        stabilities = _pourbaix_stabilities(
            [formulas[i] for i in members], formation[members], references, pourbaix[campaign]
        )
        for i, (stability, reason) in zip(members, stabilities, strict=True):
            # Skip validation: all values are computed here.
            assessment = Assessment.model_construct(
                formation_energy_per_atom=float(formation[i]),
                energy_above_hull=float(distances.energies_above_hull[i]),
                decomposes_to=distances.decomposes_to[i],
                pourbaix=stability,
                pourbaix_reason=reason,
            )
            yield candidates[i]["candidate_id"], Placement(assessment, float(above_references[i]))


def _pourbaix_stabilities(
    formulas: Sequence[str],
    formation: NDArray[np.float64],
    references: ReferenceSet,
    settings: PourbaixSettings,
) -> list[tuple[PourbaixStability | None, str | None]]:
    """Return the Pourbaix stability of each candidate, or the reason why it has none."""
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
