"""Reference phases from folders and files of the user."""

from __future__ import annotations

import gzip
import json

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.optimade import OptimadeStructureAdapter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.reference_sources.own_files import phases_of_file, phases_of_folder
from tests.helpers import rocksalt, rocksalt_cell

CALCIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.588), ["Ca"], [[0, 0, 0]])
LIME = rocksalt_cell("Ca", 4.811)
COINCIDING = Structure(Lattice.cubic(4), ["Ca", "Ca"], [[0, 0, 0], [0, 0, 0.00125]])
"""Crystal with two atoms 0.005 A apart."""

DAMAGED_GZIP = b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 20


def tilted_perovskite() -> Structure:
    """Build SrTiO3 in I4/mcm, whose octahedra are turned by 2 degrees, with 20 atoms."""
    return Structure.from_spacegroup(
        "I4/mcm",
        Lattice.tetragonal(5.51, 7.81),
        ["Sr", "Ti", "O", "O"],
        [[0, 0.5, 0.25], [0, 0, 0], [0, 0, 0.25], [0.2413, 0.7413, 0]],
    )


def as_entry(structure: Structure, energy_per_atom: float, name: str) -> dict:
    correction = 0.5 * len(structure)
    entry = ComputedStructureEntry(
        structure, energy_per_atom * len(structure) - correction, correction, entry_id=name
    )
    return entry.as_dict()


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a document to a file."""

    def call(document, name="phases.json"):
        text = json.dumps(document).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(text, mtime=0) if name.endswith("gz") else text)
        return path

    return call


def names(path, bound=0.05):
    return [phase.name for phase in phases_of_file(path, bound).phases]


class TestFile:
    def test_structures_in_a_list(self, write):
        path = write([LIME.as_dict(), CALCIUM.as_dict(), LIME.as_dict()])
        assert names(path) == ["CaO", "Ca", "CaO #2"]
        assert [len(phase.structure) for phase in phases_of_file(path, 0).phases] == [2, 1, 2]

    def test_structures_by_name(self, write):
        path = write({"lime": LIME.as_dict(), "Ca fcc": CALCIUM.as_dict()}, "phases.json.gz")
        assert names(path) == ["CaO lime", "Ca fcc"]

    def test_list_in_a_document(self, write):
        phases = [{"name": "lime", "structure": LIME.as_dict(), "published_energy_per_atom": None}]
        assert names(write({"kept_for": "Ca-O", "phases": phases})) == ["CaO lime"]

    def test_documents_of_the_materials_project(self, write):
        documents = [
            {"material_id": f"mp-{n}", "structure": s.as_dict(), "energy_above_hull": e}
            for n, (s, e) in enumerate([(LIME, 0.0), (CALCIUM, 0.06), (CALCIUM, 0.04)])
        ]
        assert names(write(documents)) == ["CaO mp-0", "Ca mp-2"]

    @pytest.mark.parametrize(("bound", "expected"), [(0.05, ["Ca a"]), (0.3, ["Ca a", "Ca b"])])
    def test_corrected_energies_of_entries(self, write, bound, expected):
        entries = [as_entry(CALCIUM, -2.0, "a"), as_entry(CALCIUM, -1.8, "b")]
        assert names(write(entries), bound) == expected

    def test_response_of_an_optimade_server(self, write):
        structure = LIME.copy()
        resource = {"id": "mp-2605", "type": "structures"}
        resource |= OptimadeStructureAdapter.get_optimade_structure(structure)
        (phase,) = phases_of_file(write({"data": [resource], "meta": {}}), 0).phases
        assert phase.name == "CaO mp-2605"
        assert len(phase.structure) == 2
        assert phase.structure.matches(LIME)

    def test_energies_without_those_of_elements_are_not_used(self, write):
        entries = [as_entry(LIME, -6.0, "a"), as_entry(LIME, -2.0, "b")]
        assert names(write(entries)) == ["CaO a", "CaO b"]

    def test_names_are_keys_of_database_documents(self, write):
        assert names(write({"v1.2$": LIME.as_dict()})) == ["CaO v1_2_"]

    def test_oxidation_states_and_moments_are_removed(self, write):
        structure = LIME.copy()
        structure.add_oxidation_state_by_element({"Ca": 2, "O": -2})
        structure.add_site_property("magmom", [0.0] * len(structure))
        (phase,) = phases_of_file(write([structure.as_dict()]), 0).phases
        assert phase.structure.site_properties == {}
        assert {type(specie).__name__ for specie in phase.structure.species} == {"Element"}

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ([], "is empty"),
            ([1], "entry 1 is not a structure"),
            ({"a": {"lattice": {}, "sites": []}}, "entry a has no structure"),
            ([{"material_id": "mp-1"}], "entry mp-1 has no structure"),
        ],
    )
    def test_document_without_structures_is_a_user_error(self, write, document, message):
        path = write(document)
        with pytest.raises(UserError, match=message) as error:
            phases_of_file(path, 0.05)
        assert str(path) in str(error.value)

    def test_disordered_structure_is_a_user_error(self, write):
        alloy = Structure(Lattice.cubic(3), [{"Ca": 0.5, "Sr": 0.5}], [[0, 0, 0]])
        with pytest.raises(UserError, match="alloy: its sites are partly occupied"):
            phases_of_file(write({"alloy": alloy.as_dict()}), 0.05)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"energy": None}, "entry a: energy None is not a number"),
            ({"energy": "low"}, "entry a: energy 'low' is not a number"),
            ({"correction": "MP2020"}, "entry a: correction 'MP2020' is not a number"),
            ({"composition": {}}, "entry a: {} is not a composition"),
            ({"energy_above_hull": "unknown"}, "entry a: energy_above_hull 'unknown'"),
            ({"energy_above_hull": "nan"}, "entry a: energy_above_hull 'nan'"),
            ({"structure": COINCIDING.as_dict()}, "entry a: two of its atoms are closer than"),
        ],
    )
    def test_unusable_entry_is_a_user_error(self, write, changes, message):
        path = write([as_entry(CALCIUM, -2.0, "a") | changes])
        with pytest.raises(UserError, match=message) as error:
            phases_of_file(path, 0.05)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("resource", "message"),
        [
            ({"id": "mp-1", "attributes": None}, "entry mp-1 has no structure"),
            ({"attributes": {}}, "has no structure"),
        ],
    )
    def test_optimade_entry_without_structure_is_a_user_error(self, write, resource, message):
        with pytest.raises(UserError, match=message):
            phases_of_file(write({"data": [resource]}), 0.05)

    def test_optimade_entry_without_id_is_named_by_its_formula(self, write):
        resource = OptimadeStructureAdapter.get_optimade_structure(LIME.copy())
        assert names(write({"data": [resource]})) == ["CaO"]

    @pytest.mark.parametrize("content", [b"{", b"[NaN]", b"\x1f\x8b", DAMAGED_GZIP])
    @pytest.mark.parametrize("name", ["phases.json", "phases.json.gz"])
    def test_damaged_file_is_a_user_error(self, tmp_path, content, name):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            phases_of_file(tmp_path / name, 0.05)


class TestFolder:
    def test_files_of_a_folder(self, tmp_path):
        LIME.to(str(tmp_path / "CaO_lime.cif"))
        (tmp_path / "metals").mkdir()
        CALCIUM.to(str(tmp_path / "metals" / "POSCAR.fcc"), fmt="poscar")
        phases = phases_of_folder(tmp_path)
        assert [phase.name for phase in phases] == ["CaO_lime", "Ca metals/POSCAR_fcc"]
        assert [len(phase.structure) for phase in phases] == [2, 1]

    def test_small_distortions_are_not_averaged(self, tmp_path):
        tilted_perovskite().to(str(tmp_path / "tilted.cif"))
        (phase,) = phases_of_folder(tmp_path)
        assert len(phase.structure) == 10
        group = SpacegroupAnalyzer(phase.structure, symprec=0.01).get_space_group_symbol()
        assert group == "I4/mcm"

    def test_atoms_at_one_place_are_a_user_error(self, tmp_path):
        COINCIDING.to(str(tmp_path / "POSCAR"), fmt="poscar")
        with pytest.raises(UserError, match="POSCAR: two of its atoms are closer than"):
            phases_of_folder(tmp_path)

    def test_file_that_does_not_parse_is_a_user_error(self, tmp_path):
        rocksalt().to(str(tmp_path / "a.cif"))
        (tmp_path / "b.cif").write_text("data_broken\n")
        with pytest.raises(UserError, match=r"b\.cif"):
            phases_of_folder(tmp_path)


def test_source_of_a_phase_has_the_displacement_by_the_reduction(tmp_path, write):
    doubled = rocksalt("Ca", 4.811) * (1, 1, 2)
    doubled.to(str(tmp_path / "exact.cif"))
    doubled.translate_sites([0], [0.006, 0.0, 0.0], frac_coords=False)
    doubled.to(str(tmp_path / "averaged.cif"))
    averaged, exact = phases_of_folder(tmp_path)
    assert exact.source == "file exact.cif"
    assert averaged.source.startswith("file averaged.cif; ")
    assert "0.003 A" in averaged.source
    (phase,) = phases_of_file(write([doubled.as_dict()]), 0.05).phases
    assert "0.003 A" in phase.source
