from __future__ import annotations

import numpy as np
import pytest
import yaml
from ase.calculators.lj import LennardJones
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.candidate import Ending, RelaxedStructure
from gan_htvs.core.errors import UserError
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from gan_htvs.thermodynamics.hull import ReferenceEnergy
from gan_htvs.thermodynamics.pourbaix import KJ_PER_MOL_PER_EV
from gan_htvs.thermodynamics.references import (
    REFERENCE_PHASES,
    ReferencePhase,
    elemental_gases,
    reference_phases,
    reference_set,
)
from tests.helpers import require_potential, rocksalt

SHIPPED = yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))
DOCUMENTS = {document["name"]: document for document in SHIPPED["phases"]}
MG_MN_O = reference_phases(("Mg", "Mn", "O"))
V_O = reference_phases(("V", "O"))
PHASES = MG_MN_O + [phase for phase in V_O if phase.formula != "O2"]

SHORTEST = {"O2": 1.1, "MgO2": 1.4, "VO2": 1.65, "V6O13": 1.5, "V2O5": 1.5}
SHORTEST |= dict.fromkeys(("V5O9", "V6O11", "V7O13", "V8O15"), 1.7)
"""Shortest bonds of O2, peroxides, dimers and vanadyl, A; other bonds are longer than 1.8 A."""

COORDINATION = {
    "Mn3O4 marokite type": {6, 8},
    "MgMn2O4 marokite type": {6, 8},
    "V2O5": {5},
    "VO2 B": {5, 6},
}
"""Coordination numbers of cations that are not four or six."""

BOND_LENGTHS = {"H": 0.741, "N": 1.098, "O": 1.208, "F": 1.412, "Cl": 1.988}
"""Bond lengths of gaseous molecules, A (Huber & Herzberg, 1979)."""

# kJ/mol of formula unit, NBS tables (1982)
MEASURED_ENTHALPIES = {"V2O3": -1218.8, "VO2": -717.6, "V2O5": -1550.6}


def test_every_phase_of_the_file_has_a_source():
    assert [phase.name for phase in PHASES] == list(DOCUMENTS)
    assert all(phase.source for phase in PHASES)
    assert (len(MG_MN_O), len(V_O)) == (25, 16)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
class TestCrystal:
    def test_formula(self, phase: ReferencePhase):
        assert phase.formula == DOCUMENTS[phase.name]["formula"]

    def test_space_group(self, phase: ReferencePhase):
        space_group = SpacegroupAnalyzer(phase.structure, symprec=0.01).get_space_group_symbol()
        assert space_group == DOCUMENTS[phase.name]["space_group"]

    def test_shortest_distance(self, phase: ReferencePhase):
        distances = phase.structure.distance_matrix + 99 * np.eye(len(phase.structure))
        assert distances.min() > SHORTEST.get(phase.formula, 1.8)

    def test_coordination_of_cations(self, phase: ReferencePhase):
        if len(phase.structure.composition) == 1:
            pytest.skip("an element")
        for site in phase.structure:
            if site.specie.symbol != "O":
                neighbors = phase.structure.get_neighbors(site, 2.7)
                expected = COORDINATION.get(phase.name, {4, 6})
                assert sum(n.specie.symbol == "O" for n in neighbors) in expected


@pytest.mark.parametrize(
    ("name", "measured"),
    [("V3O5 oxyvanite", 4.66), ("VO2 paramontroseite", 4.095)],  # AMCSD, g/cm^3
)
def test_measured_density(name: str, measured: float):
    (phase,) = (phase for phase in V_O if phase.name == name)
    assert phase.structure.density == pytest.approx(measured, rel=0.01)


def test_bonds_of_vanadium_oxides():
    for phase in V_O:
        for site in phase.structure:
            if site.specie.symbol == "V" and "O" in phase.structure.symbol_set:
                bonds = [n.nn_distance for n in phase.structure.get_neighbors(site, 2.9)
                         if n.specie.symbol == "O"]  # fmt: skip
                assert 1.55 < min(bonds) < 2.1


def test_primitive_cell_of_alpha_manganese_has_29_atoms():
    (phase,) = (phase for phase in PHASES if phase.name == "Mn alpha")
    assert len(phase.structure) == 29


def test_only_oxygen_is_pinned():
    pinned = {p.formula: p.pinned_energy_per_atom for p in PHASES if p.pinned_energy_per_atom}
    assert pinned == {"O2": -4.94795546875}


def test_elemental_gases_are_pinned_molecules():
    gases = elemental_gases()
    assert set(gases) == {"H", "N", "O", "F", "Cl"}
    for symbol, gas in gases.items():
        assert gas.formula == f"{symbol}2"
        assert gas.pinned_energy_per_atom is not None
        distances = gas.structure.distance_matrix + 99 * np.eye(len(gas.structure))
        assert distances.min() == pytest.approx(BOND_LENGTHS[symbol], abs=0.06)


def test_phases_of_a_subsystem():
    formulas = {phase.formula for phase in reference_phases(["Mg", "O"])}
    assert formulas == {"Mg", "O2", "MgO", "MgO2"}


def test_element_without_phases_is_a_user_error():
    with pytest.raises(UserError, match=r"known for Cr, .* Mg, Mn, O, V;"):
        reference_phases(["Cr", "O"])


class TestChgnet:
    """Energies of shipped phases after the relaxation of a campaign."""

    @pytest.fixture(scope="class")
    def relaxations(self) -> Relaxations:
        require_potential("chgnet")
        return Relaxations(PotentialSettings())

    def test_measured_energies_of_vanadium_oxides(self, relaxations: Relaxations):
        references = relaxations.references(V_O)
        for formula, enthalpy in MEASURED_ENTHALPIES.items():
            entry = min(
                (entry for entry in references.entries if entry.formula == formula),
                key=lambda entry: entry.energy_per_atom,
            )
            energy = references.formation_energy_per_atom(formula, entry.energy_per_atom)
            measured = enthalpy / KJ_PER_MOL_PER_EV / entry.composition.num_atoms
            assert energy == pytest.approx(measured, abs=0.07)
            assert references.energy_above_hull(formula, entry.energy_per_atom) == 0
        for name in ("V3O5 oxyvanite", "V4O7", "V5O9", "V6O11", "V7O13", "V8O15"):
            (entry,) = (entry for entry in references.entries if entry.name == name)
            above = references.energy_above_hull(entry.formula, entry.energy_per_atom)
            assert above == pytest.approx(0, abs=0.004)
        (rutile,) = (entry for entry in references.entries if "VO2 M1" in _names(entry))
        assert _names(rutile) == {"VO2 rutile", "VO2 M1"}

    # kJ/mol of formula unit, NBS tables (1982)
    @pytest.mark.parametrize(
        ("formula", "metal_length", "length", "enthalpy"),
        [("KF", 5.328, 5.347, -567.27), ("NaCl", 4.29, 5.64, -411.15), ("LiH", 3.51, 4.08, -90.54)],
    )
    def test_measured_energies_with_elemental_gases(
        self, formula, metal_length, length, enthalpy, relaxations: Relaxations
    ):
        cation, anion = (element.symbol for element in Composition(formula))
        metal = phase(cation, metal_length, "Im-3m")
        salt = ReferencePhase(formula, rocksalt(cation, length, anion), "a test")
        references = relaxations.references([elemental_gases()[anion], metal, salt])
        (entry,) = (entry for entry in references.entries if entry.name == formula)
        energy = references.formation_energy_per_atom(formula, entry.energy_per_atom)
        assert energy == pytest.approx(enthalpy / KJ_PER_MOL_PER_EV / 2, abs=0.04)

    # eV/atom above the hull, and the stable phases of the decomposition with fractions of atoms
    @pytest.mark.parametrize(
        ("name", "products", "above"),
        [
            ("MgMn2O4 marokite type", {"MgMn2O4 tetragonal": 1}, 0.053),
            ("Mn3O4 marokite type", {"Mn3O4 hausmannite": 1}, 0.022),
            (
                "Mg3Mn3O8",
                {"MgMn2O4 tetragonal": 0.5, "Mg2MnO4 inverse spinel (P4_122)": 0.5},
                -0.001,
            ),
        ],
    )
    def test_published_energies_above_hull(
        self, name: str, products: dict[str, float], above: float, relaxations: Relaxations
    ):
        structures = {phase.name: phase.structure for phase in MG_MN_O}
        relaxed = relaxations.relax([structures[label] for label in (name, *products)])
        energy, *others = (result.energy_per_atom for result in relaxed)
        hull = np.dot(others, list(products.values()))
        assert energy - hull == pytest.approx(above, abs=0.004)


def _names(entry: ReferenceEnergy) -> set[str]:
    return {entry.name, *entry.merged}


def systems(names: list[str]) -> set[frozenset[str]]:
    return {frozenset(name.split("-")) for name in names}


class TestCoverage:
    def test_file_has_phases_of_exactly_the_covered_systems(self):
        listed = {frozenset(site[0] for site in phase["sites"]) for phase in SHIPPED["phases"]}
        assert {system for system in listed if len(system) > 1} == systems(SHIPPED["covered"])

    @pytest.mark.parametrize(
        ("elements", "missing"),
        [
            ("Mg V O", "Mg-O-V"),
            ("Mn V O", "Mn-V, Mn-O-V"),
            ("Mg Mn V O", "Mn-V, Mg-Mn-V, Mg-O-V, Mn-O-V, Mg-Mn-O-V"),
            ("Mn V", "Mn-V"),
        ],
    )
    def test_system_without_shipped_compounds_is_a_user_error(self, elements, missing):
        with pytest.raises(UserError, match=f"of {missing}.* are"):
            reference_phases(elements.split())

    @pytest.mark.parametrize("elements", ["Mg Mn", "V Mg", "V", "O Mn"])
    def test_system_that_is_covered_or_has_no_compounds(self, elements):
        phases = reference_phases(elements.split())
        assert {el.symbol for p in phases for el in p.structure.elements} == set(elements.split())


def phase(symbol: str, length: float, group: str = "Fm-3m") -> ReferencePhase:
    cell = Structure.from_spacegroup(group, Lattice.cubic(length), [symbol], [[0, 0, 0]])
    return ReferencePhase(name=symbol, structure=cell.get_primitive_structure(), source="a test")


def oxides(*cations: str) -> list[ReferencePhase]:
    return [
        ReferencePhase(
            name=f"{cation}O",
            structure=Structure(
                Lattice.rhombohedral(3.4, 60), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
            ),
            source="a test",
        )
        for cation in cations
    ]


METALS = {
    "Ca": (phase("Ca", 5.588), 43.6),
    "Sr": (phase("Sr", 6.085), 56.3),
    "K": (phase("K", 5.328, "Im-3m"), 75.6),
    "Ba": (phase("Ba", 5.028, "Im-3m"), 63.6),
    "Rb": (phase("Rb", 5.585, "Im-3m"), 87.1),
    "Cs": (phase("Cs", 6.141, "Im-3m"), 115.8),
}
"""Metals and their measured volumes, A^3/atom, beyond the limit for generated oxides."""


class TestMetals:
    """Relaxations of phases beyond the limits for generated oxides."""

    @pytest.mark.parametrize("symbol", METALS)
    @pytest.mark.parametrize("potential", ["chgnet", "sevennet-0"])
    def test_measured_volumes(self, potential: str, symbol: str):
        require_potential(potential)
        metal, measured = METALS[symbol]
        settings = PotentialSettings(name=potential).for_references
        relaxation = relax(metal.structure, settings, is_reference=True)
        assert relaxation.ending is Ending.CONVERGED
        assert relaxation.relaxed.structure.volume == pytest.approx(measured, rel=0.1)

    def test_short_bonds_of_a_hydroxide(self):
        require_potential("chgnet")
        third, two = 1 / 3, 2 / 3
        portlandite = Structure.from_spacegroup(
            "P-3m1",
            Lattice.hexagonal(3.589, 4.911),
            ["Ca", "O", "H"],
            [[0, 0, 0], [third, two, 0.2341], [third, two, 0.4248]],  # O-H 0.94 A
        )
        relaxation = relax(portlandite, PotentialSettings().for_references, is_reference=True)
        assert relaxation.ending is Ending.CONVERGED

    def test_reference_set_of_metals(self, tmp_path):
        require_potential("chgnet")
        phases = [METALS["Ca"][0], METALS["K"][0], *reference_phases(["O"]), *oxides("Ca")]
        journal = tmp_path / "relaxations.jsonl"
        references = Relaxations(PotentialSettings(), journal=journal).references(phases)
        assert references.elements == ("Ca", "K", "O")
        again = Relaxations(PotentialSettings(), journal=journal).references(phases)
        assert again == references


class TestFailures:
    """Messages about reference phases without an energy."""

    CALCIUM = METALS["Ca"][0]

    def message(self, outcome: RelaxedStructure | str) -> str:
        with pytest.raises(UserError) as error:
            reference_set([self.CALCIUM], {"Ca": outcome}, "CHGNet-0.3.0")
        return str(error.value)

    def relaxed(self, **changes) -> RelaxedStructure:
        fields = {
            "structure": self.CALCIUM.structure,
            "energy_per_atom": -2.0,
            "level_of_theory": "CHGNet-0.3.0",
            "converged": True,
            "n_steps": 1000,
        }
        return RelaxedStructure(**fields | changes)

    def test_converged_relaxation(self):
        (entry,) = reference_set([self.CALCIUM], {"Ca": self.relaxed()}, "CHGNet-0.3.0").entries
        assert entry.energy_per_atom == -2

    def test_too_few_steps(self):
        message = self.message(self.relaxed(converged=False))
        assert "raise engines.energy.max_steps above 1000" in message

    def test_hole_of_the_potential_with_converged_relaxation(self):
        collapsed = self.CALCIUM.structure.copy()
        collapsed.scale_lattice(10)
        message = self.message(self.relaxed(structure=collapsed))
        assert "from 43.6 to 10 A^3/atom" in message

    @pytest.mark.parametrize("energy", [float("nan"), float("-inf")])
    def test_energy_that_is_not_finite(self, energy: float):
        relaxed = self.relaxed().model_copy(update={"energy_per_atom": energy})
        assert f"{energy} eV/atom" in self.message(relaxed)

    def test_error_of_the_potential(self):
        assert "CHGNet-0.3.0: out of memory;" in self.message("out of memory")


class TestHoles:
    """Reference phases in a hole of a potential."""

    @pytest.mark.parametrize("symbol", ["Ca", "Cs"])
    def test_collapse_is_a_user_error(self, symbol: str, monkeypatch):
        hole = LennardJones(sigma=0.2, epsilon=1000.0, rc=9.0)
        monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: hole)
        settings = PotentialSettings(fmax=1e-9, optimizer="BFGS")
        with pytest.raises(UserError, match=f"{symbol} .* by more than a factor of 2"):
            Relaxations(settings).references([METALS[symbol][0]])

    def test_failed_phase_is_relaxed_again(self, tmp_path, monkeypatch):
        class Broken(LennardJones):
            def calculate(self, *arguments, **settings):
                raise MemoryError("no memory for 58 atoms")

        journal = tmp_path / "relaxations.jsonl"
        monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: Broken())
        with pytest.raises(UserError, match="no memory for 58 atoms"):
            Relaxations(PotentialSettings(), journal=journal).references([METALS["K"][0]])
        working = LennardJones(sigma=4.0, epsilon=0.1, rc=9.0)
        monkeypatch.setattr("gan_htvs.potentials.relaxer.calculator_of", lambda name: working)
        again = Relaxations(PotentialSettings(), journal=journal)
        assert again.references([METALS["K"][0]]).elements == ("K",)
