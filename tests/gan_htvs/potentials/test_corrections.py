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

# Formation energies, eV/atom, of SevenNet-0 with MP2020 corrections and the energy of O2 of the
# potential, 0.0354 eV/atom above the pinned one.
SEVENNET_FORMATION_ENERGIES = {
    "MgO periclase": -3.063,
    "MnO manganosite": -1.996,
    "MnO2 beta (pyrolusite)": -1.803,
    "MgMn2O4 tetragonal": -2.345,
    "MgMnO3 ilmenite": -2.391,
    "Mg2MnO4 inverse spinel (P4_122)": -2.611,
}
OXYGEN_SHIFT = 0.0354


def test_chgnet_energies_include_corrections():
    assert energy_correction(PHASES["MgO periclase"].structure, -6.314, "chgnet") == 0


@pytest.mark.parametrize(
    ("name", "raw", "corrected"),
    [("MgO periclase", -5.984, -6.3275), ("Mg hcp", -1.6, -1.6), ("Mn alpha", -9.1, -9.1)],
)
def test_corrections_of_raw_energies(name, raw, corrected):
    correction = energy_correction(PHASES[name].structure, raw, "sevennet-0")
    assert raw + correction == pytest.approx(corrected, abs=1e-3)


def test_correction_of_manganese_oxide():
    oxide = energy_correction(PHASES["MnO manganosite"].structure, -7.8, "vasp")
    # MP2020: -0.687 eV per O of an oxide, -1.668 eV per Mn with U.
    assert oxide == pytest.approx((-0.687 - 1.668) / 2, abs=1e-3)


def test_oxide_with_the_formula_of_a_peroxide():
    from pymatgen.core import Lattice, Structure

    fluorite = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.2), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    oxide = -0.687 * 2 / 3
    assert energy_correction(fluorite, -5.0, "sevennet-0") == pytest.approx(oxide, abs=1e-3)


@pytest.mark.parametrize("energy", [None, math.nan, math.inf])
def test_energy_that_is_not_finite_is_an_error(energy):
    with pytest.raises(CalculationError, match=str(energy)):
        energy_correction(PHASES["Mg hcp"].structure, energy, "chgnet")


def test_hybrid_is_an_error():
    with pytest.raises(CalculationError, match="HSE06"):
        level_of_theory("HSE06")


def test_unknown_calculator_is_an_error():
    with pytest.raises(CalculationError, match=r"'EMT'.*chgnet"):
        level_of_theory("EMT")


def test_labels_of_levels_of_theory():
    labels = [level_of_theory(name).label for name in ("chgnet", "sevennet-0", "sevennet-l3i5")]
    assert labels == ["CHGNet-0.3.0", "SevenNet-0+MP2020", "SevenNet-l3i5+MP2020"]


def test_label_has_the_arguments_of_a_force_field():
    assert level_of_theory("MACE-MP-0").label == "MACE-MP-0+MP2020"
    arguments = {"model": "/x/y.model", "head": None, "size": {"b": 2, "a": 1}}
    assert level_of_theory("MACE-MP-0", arguments).label == (
        'MACE-MP-0(head=null, model=/x/y.model, size={"a": 1, "b": 2})+MP2020'
    )


def test_energies_of_two_models_are_not_comparable():
    first, second = (
        level_of_theory("DeepMD", {"model": path}).label for path in ("/a.pb", "/b.pb")
    )
    magnesium = ReferenceEnergy(
        name="Mg", formula="Mg", energy_per_atom=-1.6, level_of_theory=first
    )
    references = ReferenceSet(entries=(magnesium,))
    references.check_level(first)
    for other in (second, level_of_theory("DeepMD").label, level_of_theory("chgnet").label):
        with pytest.raises(UserError, match=r"DeepMD\(model=/a\.pb\)\+MP2020"):
            references.check_level(other)


def test_correction_of_a_force_field():
    structure = PHASES["MgO periclase"].structure
    correction = energy_correction(structure, -5.984, "MACE-MP-0")
    assert correction == energy_correction(structure, -5.984, "sevennet-0") != 0


@pytest.mark.filterwarnings("ignore:Failed to guess oxidation states")
def test_correction_of_a_large_formula_is_that_of_its_elements():
    structures = {phase.formula: phase.structure for phase in reference_phases(["V", "O"])}
    v8o15, v2o3, vo2 = (
        energy_correction(structures[name], -8.8, "sevennet-0") * structures[name].num_sites
        for name in ("V8O15", "V2O3", "VO2")
    )
    n_v2o3, n_vo2 = (structures[name].composition["V"] for name in ("V2O3", "VO2"))
    assert v8o15 == pytest.approx(2 * (2 * v2o3 / n_v2o3 + 6 * vo2 / n_vo2))


@pytest.fixture(scope="module")
def sevennet():
    """Phases of the table, relaxed with SevenNet-0; O2 is pinned."""
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
def test_published_energies_of_sevennet(name, sevennet):
    (entry,) = (entry for entry in sevennet.entries if entry.name == name)
    formation = sevennet.formation_energy_per_atom(entry.formula, entry.energy_per_atom)
    shift = OXYGEN_SHIFT * entry.composition.get_atomic_fraction("O")
    assert formation - shift == pytest.approx(SEVENNET_FORMATION_ENERGIES[name], abs=0.01)
