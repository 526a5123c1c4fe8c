"""Reference phases of tests/data/reference_phases, as a file that a campaign names."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pymatgen.core import Lattice, Structure

from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Mapping

VANADIUM_IONS = """\
version: mine-1
reference_solids:
  V: {formula: VO2, free_energy: -657.5, source: a handbook}
ions:
  - {formula: "VO[2+]", free_energy: -446.47, source: a handbook}
"""
"""A file of aqueous ions that a campaign names."""

FOLDER = Path(__file__).with_name("data") / "reference_phases"


@cache
def structures_of(system: str, shipped: tuple[str, ...] = ()) -> Mapping[str, Structure]:
    """Return reference phases by name.

    Parameters
    ----------
    system
        Name of a file in tests/data/reference_phases without its suffix, such as ``ca-mn-o``.
    shipped
        Names of phases of the package to add; the program adds gases such as O2 itself.
    """
    documents = yaml.safe_load((FOLDER / f"{system}.yaml").read_text())
    structures = {
        document["name"]: Structure.from_spacegroup(
            document["space_group"],
            Lattice.from_parameters(*document["lattice"]),
            [symbol for symbol, *_ in document["sites"]],
            [coordinates for _, *coordinates in document["sites"]],
        )
        for document in documents
    }
    package = {phase.name: phase.structure for phase in reference_phases(["Mn", "O"])}
    return structures | {name: package[name] for name in shipped}


def write_reference_file(path: Path, structures: Mapping[str, Structure]) -> None:
    """Write structures by name, for ``references: {source: file}``."""
    path.write_text(json.dumps({name: s.as_dict() for name, s in structures.items()}))
