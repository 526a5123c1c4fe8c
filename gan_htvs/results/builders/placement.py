"""Where all candidates stand: on the hull of their level of theory, and in water."""

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
from gan_htvs.results.funnel import crystal
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
"""Energies that agree to so many digits, eV/atom, are the same."""

Light = dict[str, Any]
"""What is needed of a candidate's document: no structure, no curve."""


@dataclass(frozen=True)
class Placement:
    """What all energies together say of one candidate, or why they say nothing."""

    assessment: Assessment | None = None
    energy_above_references: float | None = None
    reason: str | None = None

    @property
    def hash(self) -> str:
        """Name of the numbers: equal for two runs that differ by rounding."""
        numbers = [self.assessment and encode(self.assessment), self.energy_above_references]
        rounded = json.loads(json.dumps(numbers), parse_float=lambda n: round(float(n), DIGITS))
        return content_hash(__version__, rounded, self.reason)

    def fields(self, gap: BandGapResult | None, thresholds: Thresholds) -> dict[str, Any]:
        """Return fields of the candidate's document, its stage included."""
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
    candidates: Sequence[Light],
    references: Mapping[str, ReferenceSet],
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    """Place candidates on the hull of their reference set and all other candidates.

    Parameters
    ----------
    candidates
        Candidates that have an energy, in any fixed order.
    references
        Reference sets, by the hash of their content.
    pourbaix
        Conditions in water, by campaign. Candidates of other campaigns compete, and are not placed.

    Yields
    ------
    The id of each candidate and its place.
    """
    by_references: dict[str, list[Light]] = defaultdict(list)
    for candidate in candidates:
        if candidate["campaign"] in pourbaix:
            by_references[candidate["gate"]["references"] or ""].append(candidate)
    for name, members in sorted(by_references.items()):
        if name not in references:
            placement = Placement(reason=f"its reference set {name or '(none)'} is not stored")
            yield from ((each["candidate_id"], placement) for each in members)
            continue
        reasons = _incomparable(candidates, references[name])
        for each in members:
            if reason := reasons[_key(each)]:
                yield each["candidate_id"], Placement(reason=reason)
        own = [each for each in members if not reasons[_key(each)]]
        # Those found with other references compete if they can, and are placed elsewhere.
        ids = {each["candidate_id"] for each in members}
        others = [
            each
            for each in candidates
            if each["candidate_id"] not in ids and not reasons[_key(each)]
        ]
        if own:
            yield from _place(own, others, references[name], pourbaix)


def _key(candidate: Light) -> tuple[str, str]:
    return candidate["level_of_theory"], candidate["formula_pretty"]


def _incomparable(
    candidates: Sequence[Light], references: ReferenceSet
) -> dict[tuple[str, str], str | None]:
    """Return for each level of theory and formula why it cannot be compared; None: it can."""
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
    own: Sequence[Light],
    others: Sequence[Light],
    references: ReferenceSet,
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    """Place candidates among themselves and others of their level of theory."""
    competing = [*own, *others]
    formulas = [each["formula_pretty"] for each in competing]
    energies = np.array([each["energy_per_atom"] for each in competing])
    above_references = references.energies_above_hull(formulas, energies)
    # Its own reference phases compete as references; those of other sets are candidates here.
    is_reference = [
        each["origin"]["proposer"] == REFERENCE_PHASE
        and each["gate"]["references"] == references.content_hash
        for each in competing
    ]
    distances = compare_on_hull(
        references,
        HullCandidates(
            names=[f"{each['formula_pretty']} ({each['candidate_id']})" for each in competing],
            formulas=formulas,
            energies=energies,
            crystals=[crystal(each) for each in competing],
            competes=(above_references >= LOWEST_PLAUSIBLE) & ~np.array(is_reference),
        ),
    )
    formation = references.formation_energies_per_atom(formulas, energies)
    by_campaign: dict[str, list[int]] = defaultdict(list)
    for i, candidate in enumerate(own):
        by_campaign[candidate["campaign"]].append(i)
    for campaign, members in by_campaign.items():
        in_water = _in_water(
            [formulas[i] for i in members], formation[members], references, pourbaix[campaign]
        )
        for i, (stability, reason) in zip(members, in_water, strict=True):
            # Not validated field by field: all of it comes from here.
            assessment = Assessment.model_construct(
                formation_energy_per_atom=float(formation[i]),
                energy_above_hull=float(distances.energies_above_hull[i]),
                decomposes_to=distances.decomposes_to[i],
                pourbaix=stability,
                pourbaix_reason=reason,
            )
            yield own[i]["candidate_id"], Placement(assessment, float(above_references[i]))


def _in_water(
    formulas: Sequence[str],
    formation: NDArray[np.float64],
    references: ReferenceSet,
    settings: PourbaixSettings,
) -> list[tuple[PourbaixStability | None, str | None]]:
    """Return the Pourbaix stability of each candidate, or why it has none."""
    try:
        analyzer = PourbaixAnalyzer(references, settings)
    except UserError as error:
        return [(None, str(error))] * len(formulas)
    reasons = {formula: analyzer.unavailable_reason(formula) for formula in set(formulas)}
    wet = [i for i, formula in enumerate(formulas) if reasons[formula] is None]
    stabilities = iter(analyzer.stabilities([formulas[i] for i in wet], formation[wet]))
    return [
        (None, reasons[formula]) if reasons[formula] else (next(stabilities), None)
        for formula in formulas
    ]
