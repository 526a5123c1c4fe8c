"""Diversity of structures, and displacements by relaxation."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.prototypes import get_protostructure_label, get_prototype_from_protostructure
from pymatgen.analysis.structure_matcher import StructureMatcher

from gan_htvs.evaluation.evaluation_documents import Diversity
from gan_htvs.structures.symmetry import SYMPREC

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from pymatgen.core import Structure

_LENGTH_TOLERANCE, _SITE_TOLERANCE, _ANGLE_TOLERANCE = 0.5, 0.5, 10.0
"""Tolerances of the superposition in MatterGen, looser than those of matching crystals."""


def relaxation_rmsd(before: Structure, after: Structure) -> float | None:
    """Compute the root mean square displacement of the atoms by a relaxation, A.

    The structures are superimposed by pymatgen's StructureMatcher with the tolerances and the unit
    of MatterGen (Zeni et al., Nature 2025, 639, 624): primitive cells, volumes not scaled, length
    tolerance 0.5, site tolerance 0.5, angle tolerance 10 degrees; the result, in cube roots of the
    volume per atom, is multiplied by that of the mean volume.

    Returns
    -------
    None if they cannot be superimposed, where MatterGen counts the site tolerance.
    """
    matcher = StructureMatcher(
        ltol=_LENGTH_TOLERANCE,
        stol=_SITE_TOLERANCE,
        angle_tol=_ANGLE_TOLERANCE,
        primitive_cell=True,
        scale=False,
        attempt_supercell=True,
    )
    distance = matcher.get_rms_dist(before, after)
    if distance is None:
        return None
    volume_per_atom = (before.volume / len(before) + after.volume / len(after)) / 2
    return float(distance[0] * volume_per_atom ** (1 / 3))


def prototype_label(structure: Structure) -> str:
    """Return the AFLOW-style prototype of a crystal, such as ``AB2C4_cF56_227_a_d_e``.

    It has stoichiometry, Pearson symbol, space group and Wyckoff letters, as determined by pymatgen
    (Goodall et al., Sci. Adv. 2022, 8, eabn4117) at a tolerance of 0.1 A, but not the elements: all
    crystals of one framework in which other elements have the same roles have one label.
    """
    label = get_protostructure_label(structure, "spglib", raise_errors=True, init_symprec=SYMPREC)
    return str(get_prototype_from_protostructure(str(label)))


def diversity(structures: Sequence[Structure]) -> Diversity | None:
    """Count prototypes and space groups, and their effective numbers; None without structures.

    The effective number is exp(H) with the Shannon entropy H of the shares, which is the Vendi
    score (Friedman and Dieng, TMLR 2023) if equal labels are similar and others are not. It is the
    number of equally frequent labels of the same entropy. Structures whose symmetry cannot be
    determined are not counted.
    """
    prototypes, groups = [], []
    for structure in structures:
        # The programs behind both raise many types.
        try:
            label = prototype_label(structure)
            group = structure.get_space_group_info(symprec=SYMPREC)[1]
        except Exception:  # noqa: BLE001, S112
            continue
        prototypes.append(label)
        groups.append(group)
    if not prototypes:
        return None
    return Diversity(
        n_structures=len(prototypes),
        prototypes=len(set(prototypes)),
        effective_prototypes=_effective_number(prototypes),
        space_groups=len(set(groups)),
        effective_space_groups=_effective_number(groups),
    )


def _effective_number(labels: Iterable[Hashable]) -> float:
    counts = np.array(list(Counter(labels).values()), dtype=float)
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
