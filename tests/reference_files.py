"""Reference phases of tests/data/reference_phases, as a file that a campaign names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pymatgen.core import Lattice, Structure

from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).with_name("data") / "reference_phases"


def structures_of(system: str) -> dict[str, Structure]:
    """Read the hand-made phases of a chemical system, such as ``ca-mn-o``, by name."""
    documents = yaml.safe_load((FOLDER / f"{system}.yaml").read_text())
    return {
        document["name"]: Structure.from_spacegroup(
            document["space_group"],
            Lattice.from_parameters(*document["lattice"]),
            [symbol for symbol, *_ in document["sites"]],
            [coordinates for _, *coordinates in document["sites"]],
        )
        for document in documents
    }


def write_reference_file(path: Path, system: str, shipped: Iterable[str] = ()) -> None:
    """Write the phases of a system for ``references: {source: file}``.

    Parameters
    ----------
    path
        The JSON file: pymatgen structures by name.
    system
        Name of a file in tests/data/reference_phases without its suffix.
    shipped
        Names of phases of the package to add; the program adds gases such as O2 itself.
    """
    names = set(shipped)
    added = {
        phase.name: phase.structure
        for phase in reference_phases(["Mn", "O"])
        if phase.name in names
    }
    structures = structures_of(system) | added
    path.write_text(json.dumps({name: s.as_dict() for name, s in structures.items()}))
