"""Rediscovery: how many crystals that are not in the training set are found by samples.

Kim et al., ACS Cent. Sci. 2020, 6, 1412, find 40 % of the metastable V-O crystals of another study
(iMatGen: Noh et al., Matter 2019, 1, 1370) in their samples.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

from gan_htvs.core.errors import UserError
from gan_htvs.core.statistics import Share
from gan_htvs.evaluation.rediscovery_documents import (
    PUBLISHED_REDISCOVERY,
    FormulaRediscovery,
    Rediscovery,
    RediscoveryTargets,
    Target,
)
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.matching import StructureIndex, UniqueStructures
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.potentials.relaxation import Relaxations
    from gan_htvs.thermodynamics.hull import ReferenceSet

WINDOW = 0.2
"""Largest energy above hull of the targets, eV/atom."""

NOT_SOUND = "the relaxation failed, did not converge or broke the crystal apart"
OUTSIDE = "further above the hull"
TRAINING = "in the training set"
DUPLICATE = "matches a more stable target"


def rediscovery_targets(
    structures: Mapping[str, Structure],
    references: ReferenceSet,
    relaxations: Relaxations,
    *,
    training: Iterable[Structure] = (),
    window: float = WINDOW,
    geometry: GeometryLimits = CHEMISTRY,
    on_progress: Callable[[int, int], None] | None = None,
) -> RediscoveryTargets:
    """Relax structures, and keep the unique ones near the hull that are not known.

    Parameters
    ----------
    structures
        Structures by label.
    references
        Reference energies of the same potential.
    relaxations
        Potential, and cache of relaxations.
    training
        Known structures. A target matches none of them, as given and after relaxation.
    window
        Largest energy above hull, eV/atom.
    geometry
        Limits of the relaxed structures; by default those of the elements.
    on_progress
        Called with the number of relaxed structures and the total.

    Raises
    ------
    UserError
        If an element has no reference phase, the potential fails, or no structure is a target.
    """
    references.fractions(structure.composition for structure in structures.values())
    known, unique = StructureIndex(training), UniqueStructures()
    valid = {label: s for label, s in structures.items() if check_geometry(s, geometry) is None}
    unseen = {label: s for label, s in valid.items() if known.first(s) is None}
    skipped = Counter({NOT_SOUND: len(structures) - len(valid), TRAINING: len(valid) - len(unseen)})
    near: list[Target] = []
    results = relaxations.relax(list(unseen.values()), on_progress=on_progress)
    for label, relaxed in zip(unseen, results, strict=True):
        if relaxed is None or check_relaxation(relaxed, geometry) is not None:
            skipped[NOT_SOUND] += 1
            continue
        composition = relaxed.structure.composition
        energy = references.decomposition_energy(composition, relaxed.energy_per_atom)
        lowest = lowest_plausible(None, references.uncovered(composition))
        if implausible_reason(energy, lowest) is not None:
            skipped[NOT_SOUND] += 1
        elif energy > window:
            skipped[OUTSIDE] += 1
        else:
            near.append(
                Target(
                    label=label,
                    formula=composition.reduced_formula,
                    decomposition_energy=energy,
                    structure=relaxed.structure,
                )
            )
    targets = []
    for target in sorted(near, key=attrgetter("decomposition_energy")):
        if known.first(target.structure) is not None:
            skipped[TRAINING] += 1
        elif not unique.add(target.structure):
            skipped[DUPLICATE] += 1
        else:
            targets.append(target)
    if not targets:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in skipped.items() if n)
        raise UserError(
            f"rediscovery: none of the {len(structures)} structures is a target within "
            f"{window:g} eV/atom ({reasons}); give others or a wider window."
        )
    return RediscoveryTargets(
        window=window,
        level_of_theory=references.level_of_theory,
        n_given=len(structures),
        skipped={reason: n for reason, n in skipped.items() if n},
        targets=targets,
    )


def rediscovery(
    samples: Sequence[Structure],
    targets: RediscoveryTargets,
    *,
    relaxed: Sequence[Structure] | None = None,
) -> Rediscovery:
    """Count the targets that match a sample before relaxation, and a relaxed one.

    Structures match as in :mod:`gan_htvs.structures.matching`: primitive cells with scaled volumes,
    so that cells of any size of one reduced formula are compared.

    Parameters
    ----------
    samples
        Valid samples before relaxation.
    targets
        Crystals to be found.
    relaxed
        Relaxed samples; None: no sample was sent to relaxation.

    Examples
    --------
    >>> rediscovery(samples, targets, relaxed=relaxed).relaxed.value  # doctest: +SKIP
    0.15
    """
    index = StructureIndex(target.structure for target in targets.targets)

    def found_by(structures: Sequence[Structure]) -> set[int]:
        return {i for structure in structures for i in index.positions(structure)}

    found_as_generated = found_by(samples)
    found_relaxed = None if relaxed is None else found_by(relaxed)
    formulas = [target.formula for target in targets.targets]
    sampled = Counter(structure.composition.reduced_formula for structure in samples)

    def share(found: set[int], among: Iterable[str]) -> Share:
        chosen = set(among)
        return Share(
            k=sum(formulas[i] in chosen for i in found),
            n=sum(formula in chosen for formula in formulas),
        )

    def relaxed_share(among: Iterable[str]) -> Share | None:
        return None if found_relaxed is None else share(found_relaxed, among)

    elements = {el.symbol for target in targets.targets for el in target.structure.elements}
    is_published = elements == set(PUBLISHED_REDISCOVERY.chemsys.split("-"))
    return Rediscovery(
        n_samples=len(samples),
        n_relaxed=len(relaxed or ()),
        as_generated=share(found_as_generated, formulas),
        relaxed=relaxed_share(formulas),
        sampled_as_generated=share(found_as_generated, sampled),
        sampled_relaxed=relaxed_share(sampled),
        formulas=[
            FormulaRediscovery(
                formula=formula,
                n_samples=sampled[formula],
                as_generated=share(found_as_generated, [formula]),
                relaxed=relaxed_share([formula]),
            )
            for formula in sorted(set(formulas))
        ],
        found_as_generated=tuple(sorted(found_as_generated)),
        found_relaxed=tuple(sorted(found_relaxed or ())),
        published=PUBLISHED_REDISCOVERY if is_published else None,
    )
