"""Documents of a finished campaign, for tests of code that reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.campaign_file import validate_campaign
from gan_htvs.core.candidate import Candidate, Origin
from gan_htvs.core.document import encode
from gan_htvs.core.pourbaix_stability import PourbaixSettings, PourbaixStability
from gan_htvs.core.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases


def candidate(name: str, metal: str = "Mg", minimum: float | None = None, **more) -> Candidate:
    """Return a candidate with the rocksalt structure; ``minimum`` is that of Pourbaix, eV/atom.

    Its decomposition energies are its energy above hull unless they are given.
    """
    structure = Structure(Lattice.rhombohedral(3.0, 60), [metal, "O"], [[0] * 3, [0.5] * 3])
    pourbaix = minimum and PourbaixStability(
        minimum=minimum,
        ph_at_minimum=7.0,
        decomposes_to=(),
        ph=(7.0,),
        decomposition_energies=(minimum,),
        settings=PourbaixSettings(),
        ion_set="test",
        level_of_theory="test",
    )
    return Candidate(
        **{
            "candidate_id": name,
            "campaign": "first",
            "stage": Stage.GENERATED,
            "origin": Origin(proposer="gan", requested_composition="MgO", index=0),
            "formula_pretty": structure.composition.reduced_formula,
            "chemsys": structure.composition.chemical_system,
            "nsites": len(structure),
            "generated_structure": structure,
            "structure": structure,
            "pourbaix": pourbaix or None,
            "last_updated": datetime(2026, 1, 1, tzinfo=UTC),
            "decomposition_energy": more.get("energy_above_hull"),
            "reference_decomposition_energy": more.get("energy_above_hull"),
        }
        | more
    )


CAMPAIGN = validate_campaign(
    {
        "name": "mg-mn-o",
        "chemical_system": {"caps": {"Mg": 2, "Mn": 2, "O": 4}},
        "oxidation_states": {"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
    },
    "test",
)


def store_campaign(
    databases: Databases, candidates: Iterable[Candidate], campaign: Campaign = CAMPAIGN
) -> None:
    """Store the settings of a campaign, and candidates."""
    with databases.store("campaigns", key="name") as store:
        store.update([{"name": campaign.name, "settings": campaign.model_dump(mode="json")}])
    with databases.store("candidates", key="candidate_id") as store:
        store.update([encode(candidate) for candidate in candidates])


OF_ANOTHER_VERSION = {"name": "newer", "settings": {"name": "newer", "unheard_of": 1}}
"""A campaign with settings that this version does not know."""

CANDIDATES = [
    candidate("a" * 16, campaign="mg-mn-o", energy_above_hull=0.1, band_gap=2.0, minimum=0.4,
              stage="photoanode", level_of_theory="test"),
    *(
        candidate(f"{i:016x}", "Mn", campaign="mg-mn-o", energy_above_hull=0.2 + i / 1000)
        for i in range(60)
    ),
]  # fmt: skip
