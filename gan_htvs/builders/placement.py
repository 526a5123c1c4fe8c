"""Where all candidates stand: on the hull of their level of theory, and in water."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Composition

from gan_htvs import __version__
from gan_htvs.assessment import LOWEST_BELIEVED
from gan_htvs.candidate import Assessment
from gan_htvs.documents import encode
from gan_htvs.errors import UserError
from gan_htvs.funnel import crystal
from gan_htvs.identity import content_hash
from gan_htvs.thermodynamics.joint_hull import HullCandidates, compare_on_hull
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gan_htvs.campaign import PourbaixSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.pourbaix_stability import PourbaixStability

DIGITS = 9
"""Energies that agree to so many digits, eV/atom, are the same."""

Light = dict[str, Any]
"""What is needed of a document of ``stability``: no structure, no curve."""


@dataclass(frozen=True)
class Placement:
    """What all energies together say of one candidate, or why they say nothing."""

    assessment: Assessment | None = None
    energy_above_references: float | None = None
    reason: str | None = None

    @property
    def hash(self) -> str:
        """Name of the numbers: equal for two runs that differ by rounding."""
        found = self.assessment
        if found is None:
            return content_hash(__version__, self.reason)
        water = found.pourbaix
        return content_hash(
            __version__,
            _rounded([found.formation_energy_per_atom, found.energy_above_hull]),
            round(self.energy_above_references or 0.0, DIGITS),
            {name: round(share, DIGITS) for name, share in found.decomposes_to.items()},
            found.pourbaix_reason,
            water and (water.decomposes_to, water.settings, water.ion_set),
            water and _rounded(water.decomposition_energies),
        )

    def fields(self) -> dict[str, Any]:
        """Write the fields of a document of ``stability``."""
        return {
            "assessment": self.assessment and encode(self.assessment),
            "energy_above_references": self.energy_above_references,
            "reason": self.reason,
        }


def place_all(
    candidates: Sequence[Light],
    references: Mapping[str, ReferenceSet],
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    """Place sound candidates.

    Parameters
    ----------
    candidates
        Documents of ``stability``, in any fixed order.
    references
        Reference sets, by the hash of their content.
    pourbaix
        Conditions in water, by campaign.

    Yields
    ------
    The id of each candidate and its place.
    """
    for uuid in sorted({candidate["references"] for candidate in candidates}):
        if uuid not in references:
            reason = f"its reference set {uuid or '(none)'} is not stored"
            for each in candidates:
                if each["references"] == uuid:
                    yield each["candidate_id"], Placement(reason=reason)
            continue
        obstacles = _obstacles(candidates, references[uuid])
        own, others = [], []
        for each in candidates:
            obstacle = obstacles[each["level_of_theory"], each["formula_pretty"]]
            if each["references"] != uuid:
                # Found with other references; it competes if it can, and is placed elsewhere.
                others += [] if obstacle else [each]
            elif obstacle:
                yield each["candidate_id"], Placement(reason=obstacle)
            else:
                own.append(each)
        if own:
            yield from _place(own, others, references[uuid], pourbaix)


def _obstacles(
    candidates: Sequence[Light], references: ReferenceSet
) -> dict[tuple[str, str], str | None]:
    """Say for each level of theory and formula what keeps it from a comparison, if anything."""
    obstacles: dict[tuple[str, str], str | None] = {}
    for level, formula in {(c["level_of_theory"], c["formula_pretty"]) for c in candidates}:
        try:
            references.check_level(level)
            references.fractions([formula])
        except UserError as error:
            obstacles[level, formula] = str(error)
        else:
            obstacles[level, formula] = None
    return obstacles


def _place(
    own: Sequence[Light],
    others: Sequence[Light],
    references: ReferenceSet,
    pourbaix: Mapping[str, PourbaixSettings],
) -> Iterator[tuple[str, Placement]]:
    everybody = [*own, *others]
    formulas = [each["formula_pretty"] for each in everybody]
    energies = np.array([each["energy_per_atom"] for each in everybody])
    above_references = references.energies_above_hull(formulas, energies)
    distances = compare_on_hull(
        references,
        HullCandidates(
            names=[f"{each['formula_pretty']} ({each['candidate_id']})" for each in everybody],
            formulas=formulas,
            energies=energies,
            crystals=[crystal(each) for each in everybody],
            # Its own known phases compete as references; those of other sets are candidates here.
            competes=(above_references >= LOWEST_BELIEVED)
            & ~np.array(
                [k < len(own) and each["is_known_phase"] for k, each in enumerate(everybody)]
            ),
        ),
    )
    formation = references.formation_energies_per_atom(formulas, energies)
    in_water = _in_water(own, formation, references, pourbaix)
    for i, (each, (stability, reason)) in enumerate(zip(own, in_water, strict=True)):
        # Not validated field by field: all of it comes from here.
        assessment = Assessment.model_construct(
            formation_energy_per_atom=float(formation[i]),
            energy_above_hull=float(distances.energies_above_hull[i]),
            decomposes_to=distances.decomposes_to[i],
            pourbaix=stability,
            pourbaix_reason=reason,
        )
        yield each["candidate_id"], Placement(assessment, float(above_references[i]))


def _in_water(
    candidates: Sequence[Light],
    formation: NDArray[np.float64],
    references: ReferenceSet,
    pourbaix: Mapping[str, PourbaixSettings],
) -> list[tuple[PourbaixStability | None, str | None]]:
    """Pourbaix stability of each candidate under its campaign's conditions, or why not."""
    found: list[tuple[PourbaixStability | None, str | None]] = [(None, None)] * len(candidates)
    of_campaign = defaultdict(list)
    for i, candidate in enumerate(candidates):
        of_campaign[candidate["campaign"]].append(i)
    for campaign, members in of_campaign.items():
        try:
            analyzer = PourbaixAnalyzer(references, pourbaix[campaign])
        except (KeyError, UserError) as error:
            gone = f"campaign {campaign} is not stored, or not readable"
            for i in members:
                found[i] = None, gone if isinstance(error, KeyError) else str(error)
            continue
        formulas = {candidates[i]["formula_pretty"] for i in members}
        obstacles = {formula: analyzer.obstacle(formula) for formula in formulas}
        wet = [i for i in members if obstacles[candidates[i]["formula_pretty"]] is None]
        stabilities = analyzer.stabilities(
            [Composition(candidates[i]["formula_pretty"]) for i in wet], formation[wet]
        )
        for i in members:
            found[i] = None, obstacles[candidates[i]["formula_pretty"]]
        for i, stability in zip(wet, stabilities, strict=True):
            found[i] = stability, None
    return found


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]
