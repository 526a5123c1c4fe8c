from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import Campaign, DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.skipped import FIXES, MISFIT, UNREADABLE
from gan_htvs.dataset.sources import fetch_materials_project, read_folder, screen
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.point_cloud import decode
from tests.helpers import MG_MN_O, OXIDATION_STATES, brucite, layered, spinel


def displaced(structure: Structure) -> Structure:
    """Return the structure with reproducible random displacements, without symmetry."""
    moves = np.random.default_rng(0).uniform(-0.4, 0.4, (len(structure), 3))
    return Structure(
        structure.lattice,
        structure.species,
        structure.cart_coords + moves,
        coords_are_cartesian=True,
    )


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "structures"
    (inside / "deeper").mkdir(parents=True)
    layered().to(str(inside / "layered.cif"))
    spinel().to(str(inside / "deeper" / "POSCAR_spinel"), fmt="poscar")
    layered("Fe").to(str(inside / "iron.cif"))
    spinel().make_supercell([2, 1, 1], in_place=False).to(str(inside / "spinel_again.cif"))
    displaced(layered() * (3, 3, 1)).to(str(inside / "large.cif"))
    (inside / "broken.cif").write_text("data_broken\nloop_\n_atom_site_label\n")
    (inside / "notes.txt").write_text("not a structure")
    return inside


def test_folder_yields_unique_valid_structures_as_primitive_cells(folder):
    settings = DatasetSettings(source="folder", path=folder)
    dataset = build_dataset(MG_MN_O, OXIDATION_STATES, settings)
    assert sorted(dataset.labels) == ["deeper/POSCAR_spinel", "layered.cif"]
    by_label = dict(
        zip(dataset.labels, decode(dataset.images, MG_MN_O).to_structures(), strict=True)
    )
    matcher = structure_matcher()
    assert matcher.fit(by_label["layered.cif"], layered())
    assert matcher.fit(by_label["deeper/POSCAR_spinel"], spinel())
    assert len(by_label["deeper/POSCAR_spinel"]) == 14
    assert dataset.skipped.counts["duplicate"] == 1
    (line,) = (line for line in dataset.skipped.labels if line.startswith("spinel_again.cif"))
    assert line.endswith("(duplicate of deeper/POSCAR_spinel, RMS displacement 0.000 A)")


def test_skipped_files_are_counted_and_listed(folder):
    collection = screen(read_folder(folder), MG_MN_O, OXIDATION_STATES)
    assert collection.skipped.by_reason == {
        "foreign_or_too_many_atoms": 2,
        "no_structure_file": 1,
        "unreadable_file": 1,
    }
    lines = {line.split(" (")[0]: line for line in collection.skipped.labels}
    assert set(lines) == {"broken.cif", "iron.cif", "large.cif", "notes.txt"}
    assert "Fe" in lines["iron.cif"]


def test_averaged_positions_are_noted(tmp_path):
    doubled = layered() * (1, 1, 2)
    doubled.translate_sites([0], [0.006, 0.0, 0.0], frac_coords=False)
    doubled.to(str(tmp_path / "doubled.cif"))
    layered(length=4.3).to(str(tmp_path / "other.cif"))
    collection = screen(read_folder(tmp_path), MG_MN_O, OXIDATION_STATES)
    assert collection.notes.keys() == {"doubled.cif"}
    assert "0.003 A" in collection.notes["doubled.cif"]
    document = SimpleNamespace(material_id="mp-1", structure=doubled, energy_above_hull=0.0)
    (sample,) = fetch_materials_project(MG_MN_O, 0.5, search=lambda **_: [document])
    assert "0.003 A" in sample.note


@pytest.mark.parametrize("isotope", ["H", "D"])
def test_hydroxides_are_training_data(tmp_path, isotope):
    structure = brucite()
    structure.replace_species({"H": isotope})
    structure.to(str(tmp_path / "brucite.cif"))
    system = ChemicalSystem(caps={"Mg": 4, "O": 8, "H": 8})
    states = {"Mg": (2, 2), "O": (-2, -2), "H": (1, 1)}
    collection = screen(read_folder(tmp_path), system, states)
    assert not collection.skipped.labels
    assert [s.composition.reduced_formula for s in collection.structures] == ["Mg(HO)2"]


def test_limits_of_geometry_are_in_the_message(tmp_path):
    close, dense = layered(), layered()
    close[0] = close[0].specie, np.add(close[2].frac_coords, [0.2, 0, 0])
    close.to(str(tmp_path / "close.cif"))
    dense.scale_lattice(dense.volume / 4)
    dense.to(str(tmp_path / "dense.cif"))
    collection = screen(read_folder(tmp_path), MG_MN_O, OXIDATION_STATES)
    assert collection.skipped.by_reason == {"atoms_too_close": 1, "bad_volume": 1}
    first, second = collection.skipped.labels
    assert re.search(r"close\.cif .* A is below .* A \(geometry\.min_distances\)", first)
    assert re.search(r"dense\.cif .* A\^3/atom is below .* \(geometry\.volume_per_atom\)", second)
    assert "geometry.min_distances" in collection.skipped.fix
    wide = GeometryLimits(volume_per_atom=(1, 99), min_distances={"Mg-O": 0.1, "Mn-O": 0.1})
    limited = screen(read_folder(tmp_path), MG_MN_O, OXIDATION_STATES, wide)
    assert limited.skipped.counts["bad_volume"] == 0


def test_error_of_an_unusable_folder_lists_files_and_fixes(tmp_path):
    (tmp_path / "a.cif").write_text("garbage")
    (tmp_path / "POSCAR_x").write_text("garbage")
    Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).to(str(tmp_path / "salt.cif"))
    with pytest.raises(UserError) as caught:
        build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="folder", path=tmp_path))
    message = str(caught.value)
    assert "unreadable file (2), foreign or too many atoms (1)" in message
    assert all(f"{name} (" in message for name in ("POSCAR_x", "a.cif", "salt.cif"))
    assert all(FIXES[reason] in message for reason in (UNREADABLE, MISFIT))
    assert "duplicate" not in message


def test_error_lists_five_files_at_most(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.cif").write_text("garbage")
    with pytest.raises(UserError, match=r"unreadable file \(7\), namely 0\.cif .* and 2 more"):
        build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="folder", path=tmp_path))


def test_file_names_are_case_insensitive(tmp_path):
    layered().to(str(tmp_path / "a.cif"))
    (tmp_path / "a.cif").rename(tmp_path / "A.CIF")
    for number, name in enumerate(("poscar", "Contcar.vasp", "b.Poscar", "c.VASP")):
        layered(length=4.3 + number / 10).to(str(tmp_path / name), fmt="poscar")
    (tmp_path / "poscar_files").mkdir()
    collection = screen(read_folder(tmp_path), MG_MN_O, OXIDATION_STATES)
    assert collection.labels == ["A.CIF", "Contcar.vasp", "b.Poscar", "c.VASP", "poscar"]
    assert not collection.skipped.labels


@pytest.mark.parametrize("exists", [False, True])
def test_missing_or_empty_folder_is_a_user_error(tmp_path, exists):
    path = tmp_path / "empty"
    if exists:
        path.mkdir()
    with pytest.raises(UserError, match=str(path)):
        list(read_folder(path))


def test_materials_project_needs_an_api_key(monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    monkeypatch.setattr("gan_htvs.core.mp_client.SETTINGS", {})
    with pytest.raises(UserError, match="MP_API_KEY"):
        build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="materials_project"))


def test_materials_project_documents_yield_structures_with_energies():
    arguments = {}

    def search(**query):
        arguments.update(query)
        return [
            SimpleNamespace(material_id="mp-1", structure=layered(), energy_above_hull=0.11),
            SimpleNamespace(material_id="mp-2", structure=layered("Fe"), energy_above_hull=0.0),
            SimpleNamespace(material_id="mp-3", structure=spinel(), energy_above_hull=0.02),
        ]

    samples = fetch_materials_project(MG_MN_O, 0.5, search=search)
    collection = screen(samples, MG_MN_O, OXIDATION_STATES)
    assert arguments["chemsys"] == "Mg-Mn-O"
    assert arguments["energy_above_hull"] == (0, 0.5)
    assert collection.labels == ["mp-1", "mp-3"]
    assert collection.energies_above_hull == [0.11, 0.02]
    assert len(collection.structures[1]) == 14


def test_folder_is_identified_by_its_content(folder):
    def campaign() -> Campaign:
        (folder.parent / "campaign.yaml").write_text(
            "name: folder\n"
            "chemical_system: {caps: {Mg: 8, Mn: 8, O: 12}}\n"
            "oxidation_states: {Mg: [2, 2], Mn: [2, 4], O: [-2, -2]}\n"
            "dataset: {source: folder, path: structures}\n"
        )
        return read_campaign(folder.parent / "campaign.yaml")

    first = campaign()
    assert first.dataset.path == folder
    assert campaign() == first
    layered(length=4.4).to(str(folder / "another.cif"))
    assert campaign().dataset.sha256 != first.dataset.sha256
