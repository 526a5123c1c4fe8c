"""Structures of the user as proposals with provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.energy import check_structure
from gan_htvs.core.candidate import Origin, Proposal
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import USER
from gan_htvs.structures.structure_files import read_structures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign

ID_DIGITS = 15
"""Number of hexadecimal digits of an id: one million ids are distinct with 99.99996 %."""


def as_proposals(structures: Iterable[Proposal | Structure]) -> list[Proposal]:
    """Convert structures to proposals with ids and provenance; proposals are not changed.

    Parameters
    ----------
    structures
        Ordered crystals.

    Raises
    ------
    UserError
        If the list is empty, or a structure has no atoms or partly occupied sites.
    """
    proposals = [
        structure if isinstance(structure, Proposal) else as_proposal(structure, index=index)
        for index, structure in enumerate(structures)
    ]
    if not proposals:
        raise UserError("structures: the list is empty; give one or more.")
    return proposals


def own_proposals(campaign: Campaign) -> list[Proposal]:
    """Read the folder of structures of a campaign; labels are the file names.

    Raises
    ------
    UserError
        If the folder does not exist, or a structure has an element outside the chemical system.
    """
    if campaign.structures is None:
        return []
    structures = read_structures(campaign.structures.path).structures
    elements = set(campaign.chemical_system.elements)
    for label, structure in structures.items():
        if foreign := sorted(set(structure.symbol_set) - elements):
            raise UserError(
                f"structures.path: {label} has {', '.join(foreign)}, outside "
                f"{campaign.chemical_system.chemsys}; remove it or add the element to "
                "chemical_system.caps."
            )
    return [
        as_proposal(structure, index=index, label=label, campaign=campaign.name)
        for index, (label, structure) in enumerate(structures.items())
    ]


def as_proposal(
    structure: Structure, *, index: int = 0, label: str | None = None, campaign: str = ""
) -> Proposal:
    """Convert one structure of the user to a proposal with an id and provenance.

    Raises
    ------
    UserError
        If it has no atoms or partly occupied sites.
    """
    return make_proposal(
        structure, USER, campaign, structure, proposer=USER, index=index, label=label
    )


def make_proposal(structure: Structure, *identity: Any, **origin: Any) -> Proposal:
    """Return a structure with its provenance, and an id that is a hash of ``identity``.

    The id starts with the letter c, because programs read hashes such as 0012345678901234 and
    12e4567890123456 as numbers.

    ``origin`` has the fields of :class:`~gan_htvs.core.candidate.Origin`; the requested composition
    is that of the structure by default.

    Raises
    ------
    UserError
        If it has no atoms or partly occupied sites.
    """
    check_structure(structure)
    formula = structure.composition.formula.replace(" ", "")
    return Proposal(
        candidate_id=f"c{content_hash(*identity)[:ID_DIGITS]}",
        structure=structure,
        origin=Origin(**{"requested_composition": formula} | origin),
    )
