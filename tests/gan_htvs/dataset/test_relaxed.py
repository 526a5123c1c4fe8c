from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.campaign.model import Campaign, DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset import arrays
from gan_htvs.dataset.arrays import SHIPPED, read_array
from gan_htvs.dataset.relaxed import MIN_STRUCTURES, relax_dataset
from gan_htvs.dataset.sources import screen
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.structures.matching import structure_matcher, unique_indices
from gan_htvs.structures.point_cloud import decode
from gan_htvs.structures.validity import check_geometry
from tests.helpers import MG_MN_O, OXIDATION_STATES, layered


@pytest.fixture
def campaign(tmp_path) -> Campaign:
    folder = tmp_path / "structures"
    folder.mkdir()
    layered(length=4.2).to(str(folder / "tight.cif"))
    layered(length=4.5).to(str(folder / "wide.cif"))
    return Campaign.model_validate(
        {
            "name": "layers",
            "chemical_system": {"caps": {"Mg": 1, "Mn": 1, "O": 2}},
            "oxidation_states": OXIDATION_STATES,
            "dataset": {"source": "folder", "path": folder},
            "engines": {"energy": {"optimizer": "LBFGS", "max_steps": 150}},
        }
    )


def test_source_is_relaxed_filled_and_cached(campaign, tmp_path):
    journal = tmp_path / "relaxations.jsonl"
    steps = []
    relaxations = Relaxations(campaign.engines.potential, journal=journal)
    first = relax_dataset(campaign, relaxations, on_progress=lambda *step: steps.append(step))
    assert {name for name, *_ in steps} >= {"relax reference phases", "relax", "fill, round 1"}
    assert first.level_of_theory == "CHGNet-0.3.0"
    assert len(first.structures) > 1
    assert len(unique_indices(first.structures)) == len(first.structures)
    assert first.energies_above_hull == sorted(first.energies_above_hull)
    assert max(first.energies_above_hull) <= 0.5
    assert all(check_geometry(structure) is None for structure in first.structures)
    matcher = structure_matcher()
    assert any(matcher.fit(layered(length=4.3), structure) for structure in first.structures)

    size = journal.stat().st_size
    again = relax_dataset(campaign, Relaxations(campaign.engines.potential, journal=journal))
    assert journal.stat().st_size == size
    assert again.labels == first.labels

    path = tmp_path / "relaxed.npz"
    first.save(path, campaign)
    file = screen(
        read_array(path, campaign.chemical_system), campaign.chemical_system, OXIDATION_STATES
    )
    assert file.labels == first.labels
    np.testing.assert_allclose(file.energies_above_hull, first.energies_above_hull, atol=1e-6)
    with pytest.raises(UserError, match="Mg 1, Mn 1, O 2"):
        list(read_array(path, MG_MN_O))


def test_shipped_dataset_matches_its_documentation():
    dataset = build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="shipped"))
    assert len(dataset) >= 800
    assert dataset.n_compositions >= 100
    assert dataset.energies_above_hull.max() <= 0.5
    file = screen(read_array(SHIPPED, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    assert len(file.structures) == len(dataset)
    assert not file.skipped.by_reason
    np.testing.assert_array_equal(dataset.energies_above_hull, file.energies_above_hull)
    assert (dataset.counts.max(axis=0) <= [8, 8, 12]).all()
    assert all(
        MG_MN_O.is_charge_balanced(tuple(row), OXIDATION_STATES) for row in dataset.counts.tolist()
    )
    assert SHIPPED.stat().st_size < 1_000_000
    _, sizes = np.unique(dataset.counts, axis=0, return_counts=True)
    assert np.median(sizes) >= MIN_STRUCTURES
    some = decode(dataset.images[::7], MG_MN_O).to_structures()
    assert len(unique_indices(some)) == len(some)


@pytest.mark.parametrize("caps", [{"V": 4, "O": 10}, {"O": 12, "Mg": 8, "Mn": 8}])
def test_shipped_dataset_of_other_caps_is_a_user_error(caps):
    states = OXIDATION_STATES | {"V": (2, 5)}
    with pytest.raises(UserError, match=r"'shipped': .* Mg 8, Mn 8, O"):
        build_dataset(ChemicalSystem(caps=caps), states, DatasetSettings(source="shipped"))


def test_missing_shipped_file_is_a_user_error(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "SHIPPED", tmp_path / "gone.npz")
    with pytest.raises(UserError, match=r"gone\.npz"):
        build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="shipped"))
