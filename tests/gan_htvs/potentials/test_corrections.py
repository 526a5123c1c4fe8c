from __future__ import annotations

import math

import pytest
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.potentials.corrections import energy_correction, level_of_theory
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.references import reference_phases

PHASES = {phase.name: phase for phase in reference_phases(("Mg", "Mn", "O"))}

# Formation energies, eV/atom, of SevenNet-0 with MP2020 corrections and O2 as the potential sees
# it, 0.0354 eV/atom above the pin.
SEVENNET_FORMATION_ENERGIES = {
    "MgO periclase": -3.063,
    "MnO manganosite": -1.996,
    "MnO2 beta (pyrolusite)": -1.803,
    "MgMn2O4 tetragonal": -2.345,
    "MgMnO3 ilmenite": -2.391,
    "Mg2MnO4 inverse spinel (P4_122)": -2.611,
}
OXYGEN_SHIFT = 0.0354


def test_chgnet_energies_hold_their_corrections_already():
    assert energy_correction(PHASES["MgO periclase"].structure, -6.314, "chgnet") == 0


@pytest.mark.parametrize(
    ("name", "raw", "corrected"),
    [("MgO periclase", -5.984, -6.3275), ("Mg hcp", -1.6, -1.6), ("Mn alpha", -9.1, -9.1)],
)
def test_raw_energies_get_those_of_the_materials_project(name, raw, corrected):
    correction = energy_correction(PHASES[name].structure, raw, "sevennet-0")
    assert raw + correction == pytest.approx(corrected, abs=1e-3)


def test_manganese_is_corrected_for_u_in_oxides_alone():
    oxide = energy_correction(PHASES["MnO manganosite"].structure, -7.8, "vasp")
    # MP2020: -0.687 eV for each O of an oxide, -1.668 eV for each Mn with U in it.
    assert oxide == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)


def test_a_formula_that_reduces_to_mgo2_is_no_peroxide_for_that():
    from pymatgen.core import Lattice, Structure

    fluorite = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.2), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    oxide = -0.687 * 2 / 3
    assert energy_correction(fluorite, -5.0, "sevennet-0") == pytest.approx(oxide, abs=1e-3)


@pytest.mark.parametrize("energy", [None, math.nan, math.inf])
def test_what_is_no_energy_is_refused(energy):
    with pytest.raises(CalculationError, match="not a number"):
        energy_correction(PHASES["Mg hcp"].structure, energy, "chgnet")


def test_hybrids_never_enter_the_hull():
    with pytest.raises(CalculationError, match=r"HSE06 cannot enter the hull.*band gaps"):
        level_of_theory("HSE06")


def test_an_unknown_calculator_is_named():
    with pytest.raises(CalculationError, match=r"'EMT' cannot enter the hull; known are chgnet"):
        level_of_theory("EMT")


def test_levels_of_theory_have_labels_of_their_own():
    labels = [level_of_theory(name).label for name in ("chgnet", "sevennet-0", "sevennet-l3i5")]
    assert labels == ["CHGNet-0.3.0", "SevenNet-0+MP2020", "SevenNet-l3i5+MP2020"]


def test_arguments_of_a_force_field_are_part_of_its_label():
    assert level_of_theory("MACE-MP-0").label == "MACE-MP-0+MP2020"
    arguments = {"model": "/x/y.model", "head": None, "size": {"b": 2, "a": 1}}
    assert level_of_theory("MACE-MP-0", arguments).label == (
        'MACE-MP-0(head=null, model=/x/y.model, size={"a": 1, "b": 2})+MP2020'
    )


def test_energies_of_two_models_never_meet():
    mine, yours = (
        level_of_theory("DeepMD", {"model": path}).label for path in ("/mine.pb", "/yours.pb")
    )
    magnesium = ReferenceEnergy(name="Mg", formula="Mg", energy_per_atom=-1.6, level_of_theory=mine)
    references = ReferenceSet(entries=(magnesium,))
    references.check_level(mine)
    for other in (yours, level_of_theory("DeepMD").label, level_of_theory("chgnet").label):
        with pytest.raises(UserError, match=r"DeepMD\(model=/mine\.pb\)\+MP2020; relax both"):
            references.check_level(other)


def test_raw_energies_of_a_force_field_get_those_of_the_materials_project():
    structure = PHASES["MgO periclase"].structure
    correction = energy_correction(structure, -5.984, "MACE-MP-0")
    assert correction == energy_correction(structure, -5.984, "sevennet-0") != 0


@pytest.fixture(scope="module")
def sevennet():
    """Phases of the table, relaxed here and now, O2 pinned."""
    pytest.importorskip("sevenn", reason="SevenNet is not installed")
    from gan_htvs.potentials.calculators import calculator_of

    entries = [
        ReferenceEnergy(
            name="O2", formula="O2", energy_per_atom=-4.94795546875, level_of_theory="SevenNet-0"
        )
    ]
    for name in ("Mg hcp", "Mn alpha", *SEVENNET_FORMATION_ENERGIES):
        atoms = AseAtomsAdaptor.get_atoms(PHASES[name].structure, msonable=False)
        atoms.calc = calculator_of("sevennet-0")
        LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05, steps=200)
        raw = float(atoms.get_potential_energy()) / len(atoms)
        relaxed = AseAtomsAdaptor.get_structure(atoms)
        entries.append(
            ReferenceEnergy(
                name=name,
                formula=PHASES[name].formula,
                energy_per_atom=raw + energy_correction(relaxed, raw, "sevennet-0"),
                level_of_theory="SevenNet-0",
            )
        )
    return ReferenceSet(entries=tuple(entries))


@pytest.mark.parametrize("name", SEVENNET_FORMATION_ENERGIES)
def test_sevennet_reproduces_the_published_column(name, sevennet):
    (entry,) = (entry for entry in sevennet.entries if entry.name == name)
    formation = sevennet.formation_energy_per_atom(entry.formula, entry.energy_per_atom)
    shift = OXYGEN_SHIFT * entry.composition.get_atomic_fraction("O")
    assert formation - shift == pytest.approx(SEVENNET_FORMATION_ENERGIES[name], abs=0.01)
