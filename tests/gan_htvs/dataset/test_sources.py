from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import Campaign, DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.sources import fetch_materials_project, read_folder, screen
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.point_cloud import decode

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
STATES = {"Mg": (2.0, 2.0), "Mn": (2.0, 4.0), "O": (-2.0, -2.0)}


def rocksalt(second: str = "Mn", length: float = 4.3) -> Structure:
    """Mg and another cation in layers along c."""
    return Structure(
        Lattice.tetragonal(length / 2**0.5, length),
        ["Mg", second, "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]],
    )


def spinel() -> Structure:
    return Structure.from_spacegroup(
        "Fd-3m",
        Lattice.cubic(8.4),
        ["Mg", "Mn", "O"],
        [[0, 0, 0], [0.625, 0.625, 0.625], [0.3875, 0.3875, 0.3875]],
    )


def shaken(structure: Structure) -> Structure:
    """Without symmetry, so that no smaller cell is found in it; the same every time."""
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
    rocksalt().to(str(inside / "layered.cif"))
    spinel().to(str(inside / "deeper" / "POSCAR_spinel"), fmt="poscar")
    rocksalt("Fe").to(str(inside / "iron.cif"))
    spinel().make_supercell([2, 1, 1], in_place=False).to(str(inside / "spinel_again.cif"))
    shaken(rocksalt() * (3, 3, 1)).to(str(inside / "large.cif"))
    (inside / "broken.cif").write_text("data_broken\nloop_\n_atom_site_label\n")
    (inside / "notes.txt").write_text("not a structure")
    return inside


def test_a_folder_gives_its_sound_structures_once_as_primitive_cells(folder):
    settings = DatasetSettings(source="folder", path=folder)
    dataset = build_dataset(SYSTEM, STATES, settings)
    assert sorted(dataset.labels) == ["deeper/POSCAR_spinel", "layered.cif"]
    by_label = dict(
        zip(dataset.labels, decode(dataset.images, SYSTEM).to_structures(), strict=True)
    )
    matcher = structure_matcher()
    assert matcher.fit(by_label["layered.cif"], rocksalt())
    assert matcher.fit(by_label["deeper/POSCAR_spinel"], spinel())
    assert len(by_label["deeper/POSCAR_spinel"]) == 14
    assert dataset.skipped.counts["duplicate"] == 1
    assert "spinel_again.cif (duplicate)" in dataset.skipped.named


def test_what_does_not_come_in_is_counted_and_named(folder):
    found = screen(read_folder(folder), SYSTEM, STATES)
    assert found.skipped.by_reason == {"foreign_or_too_many_atoms": 2, "unreadable_file": 1}
    told = {line.split(" (")[0]: line for line in found.skipped.named}
    assert set(told) == {"broken.cif", "iron.cif", "large.cif"}
    assert "Fe" in told["iron.cif"]
    assert "does not parse" in told["broken.cif"]


def test_the_files_of_a_folder_that_yields_nothing_are_named_with_a_cure(tmp_path):
    (tmp_path / "a.cif").write_text("garbage")
    (tmp_path / "POSCAR_x").write_text("garbage")
    Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).to(str(tmp_path / "salt.cif"))
    with pytest.raises(UserError) as caught:
        build_dataset(SYSTEM, STATES, DatasetSettings(source="folder", path=tmp_path))
    message = str(caught.value)
    assert "unreadable file (2), foreign or too many atoms (1), namely POSCAR_x (does" in message
    assert "a.cif (does not parse: " in message
    assert "salt.cif (" in message
    assert "duplicate" not in message
    assert message.endswith(
        ": correct or remove the files that do not parse, give chemical_system.caps the elements "
        "and numbers of atoms of the structures, or use another source."
    )


def test_of_many_bad_files_five_are_named(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.cif").write_text("garbage")
    with pytest.raises(UserError, match=r"unreadable file \(7\), namely 0\.cif .* and 2 more: c"):
        build_dataset(SYSTEM, STATES, DatasetSettings(source="folder", path=tmp_path))


def test_names_of_files_count_in_capitals_or_not(tmp_path):
    rocksalt().to(str(tmp_path / "a.cif"))
    (tmp_path / "a.cif").rename(tmp_path / "A.CIF")
    for number, name in enumerate(("poscar", "Contcar.vasp", "b.Poscar", "c.VASP")):
        rocksalt(length=4.3 + number / 10).to(str(tmp_path / name), fmt="poscar")
    (tmp_path / "poscar_files").mkdir()
    found = screen(read_folder(tmp_path), SYSTEM, STATES)
    assert found.labels == ["A.CIF", "Contcar.vasp", "b.Poscar", "c.VASP", "poscar"]
    assert not found.skipped.named


@pytest.mark.parametrize(
    ("make", "message"), [(False, "is no folder"), (True, "no structure file")]
)
def test_a_missing_or_empty_folder_is_told_in_one_sentence(tmp_path, make, message):
    path = tmp_path / "empty"
    if make:
        path.mkdir()
    with pytest.raises(UserError, match=message) as caught:
        list(read_folder(path))
    assert str(path) in str(caught.value)


def test_the_materials_project_needs_a_key(monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    monkeypatch.setattr("gan_htvs.core.mp_client.SETTINGS", {})
    with pytest.raises(UserError, match="MP_API_KEY"):
        build_dataset(SYSTEM, STATES, DatasetSettings(source="materials_project"))


def test_materials_project_documents_become_structures_with_energies():
    asked = {}

    def search(**query):
        asked.update(query)
        return [
            SimpleNamespace(material_id="mp-1", structure=rocksalt(), energy_above_hull=0.11),
            SimpleNamespace(material_id="mp-2", structure=rocksalt("Fe"), energy_above_hull=0.0),
            SimpleNamespace(material_id="mp-3", structure=spinel(), energy_above_hull=0.02),
        ]

    samples = fetch_materials_project(SYSTEM, 0.5, search=search)
    found = screen(samples, SYSTEM, STATES)
    assert asked["chemsys"] == "Mg-Mn-O"
    assert asked["energy_above_hull"] == (0, 0.5)
    assert found.labels == ["mp-1", "mp-3"]
    assert found.energies_above_hull == [0.11, 0.02]
    assert len(found.structures[1]) == 14


def test_a_folder_is_known_by_its_content(folder):
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
    rocksalt(length=4.4).to(str(folder / "another.cif"))
    assert campaign().dataset.sha256 != first.dataset.sha256


def test_held_out_structures_are_a_fixed_share_and_leave_every_composition_one():
    dataset = build_dataset(SYSTEM, STATES, DatasetSettings())
    training, held_out = dataset.split(0.2)
    assert len(training) + len(held_out) == len(dataset)
    assert 0.1 * len(dataset) < len(held_out) < 0.25 * len(dataset)
    assert training.n_compositions == dataset.n_compositions
    assert set(training.labels) | set(held_out.labels) == set(dataset.labels)
    smaller, fewer = dataset.split(0.1)
    known = {image.tobytes() for image in held_out.images}
    assert {image.tobytes() for image in fewer.images} <= known, "a larger share holds out more"
    assert len(smaller) > len(training)
