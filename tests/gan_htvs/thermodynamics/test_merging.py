from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.thermodynamics.merging import SAME_ENERGY, merged_phases
from gan_htvs.thermodynamics.references import ReferencePhase, reference_phases, reference_set

LEVEL = "CHGNet-0.3.0"
ROCKSALT = Structure(Lattice.rhombohedral(2.98, 60), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SUPERCELL = ROCKSALT * (2, 1, 1)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc",
    Lattice.hexagonal(3.32, 5.1),
    ["Mg", "O"],
    [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.39]],
)


def relaxed(structure: Structure, energy: float) -> RelaxedStructure:
    return RelaxedStructure(
        structure=structure, energy_per_atom=energy, level_of_theory=LEVEL, converged=True
    )


def test_same_crystal_in_another_cell_is_merged():
    phases = {"a": relaxed(ROCKSALT, -6.0), "b": relaxed(SUPERCELL, -6.0 - SAME_ENERGY / 2)}
    assert merged_phases(phases) == {"a": "b"}  # into the phase of lowest energy


@pytest.mark.parametrize(
    ("structure", "energy"), [(WURTZITE, -6.0), (SUPERCELL, -6.0 + 2 * SAME_ENERGY)]
)
def test_other_crystal_or_energy_is_kept(structure: Structure, energy: float):
    assert merged_phases({"a": relaxed(ROCKSALT, -6.0), "b": relaxed(structure, energy)}) == {}


def test_reference_set_lists_one_phase_per_crystal():
    magnesium, *_ = (phase for phase in reference_phases(["Mg"]))
    outcomes = {
        magnesium.name: relaxed(magnesium.structure, -1.5),
        "periclase": relaxed(ROCKSALT, -6.0),
        "supercell": relaxed(SUPERCELL, -6.0 + SAME_ENERGY / 2),
        "wurtzite": relaxed(WURTZITE, -5.9),
    }
    phases = [
        magnesium,
        *reference_phases(["O"]),
        *(
            ReferencePhase(name=name, structure=outcomes[name].structure, source="a test")
            for name in ("supercell", "periclase", "wurtzite")
        ),
    ]
    entries = {entry.name: entry for entry in reference_set(phases, outcomes, LEVEL).entries}
    assert set(entries) == {"Mg hcp", "O2", "periclase", "wurtzite"}
    assert entries["periclase"].merged == ("supercell",)
    assert entries["periclase"].energy_per_atom == -6.0
