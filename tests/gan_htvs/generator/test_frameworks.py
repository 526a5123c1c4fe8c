from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.generator.checkpoint import TrainedGenerator, deserialize, load, serialize
from gan_htvs.generator.frameworks import (
    FrameworkGenerator,
    Sites,
    TrainingFrameworks,
    coverage_loss,
)
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.training import train
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import sample
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.point_cloud import decode, encode

MG_MN_O = ChemicalSystem(caps={"Mg": 3, "Mn": 2, "O": 4})
O_FIRST = ChemicalSystem(caps={"O": 4, "Mg": 3, "Mn": 2})
TINY = replace(PRESETS["tuned"], width=0.05, batch_size=16, coverage_tries=6)


def crystals(seed: int = 0) -> list[Structure]:
    rng = np.random.default_rng(seed)
    return [
        Structure(
            Lattice.from_parameters(*rng.uniform(4, 6, 3), *rng.uniform(75, 105, 3)),
            ["Mg"] * mg + ["Mn"] * mn + ["O"] * o,
            rng.random((mg + mn + o, 3)),
        )
        for mg, mn, o in [(1, 2, 3), (3, 1, 4), (2, 1, 4), (1, 1, 2), (1, 2, 3)]
    ]


def frameworks(system: ChemicalSystem = MG_MN_O) -> TrainingFrameworks:
    images = encode(crystals(), system)
    return TrainingFrameworks(images, decode(images, system).counts, system)


def as_cations(structure: Structure) -> Structure:
    return structure.copy().replace_species({"Mg": "Ti", "Mn": "Ti"})


@pytest.mark.parametrize(
    ("elements", "groups"),
    [
        ("Mg Mn O", [[0, 1], [2]]),
        ("O Ca C", [[1], [0], [2]]),
        ("Na S O", [[0], [1], [2]]),
        ("Ti O N", [[0], [1], [2]]),
        ("Si C", [[0], [1]]),
    ],
)
def test_only_metals_share_sites(elements: str, groups: list[list[int]]) -> None:
    system = ChemicalSystem(caps=dict.fromkeys(elements.split(), 4))
    assert Sites(system).groups == groups


@pytest.mark.parametrize("system", [MG_MN_O, O_FIRST])
def test_exchanged_cations_keep_the_framework_of_a_crystal(system: ChemicalSystem) -> None:
    data = frameworks(system)
    keys = torch.randn(len(data.counts), system.max_atoms)
    images = data.decorated(torch.arange(len(data.counts)), keys).numpy()
    for parent, decorated in zip(crystals(), decode(images, system).to_structures(), strict=True):
        assert isinstance(decorated, Structure)
        assert decorated.composition == parent.composition
        assert structure_matcher().fit(as_cations(decorated), as_cations(parent))


def test_cation_orderings_have_equal_probability() -> None:
    sites = Sites(MG_MN_O)
    counts = torch.tensor([[2, 1, 3]]).expand(6000, -1)
    source = sites.sources(counts, torch.randn(6000, MG_MN_O.max_atoms))
    manganese = source[:, 3]  # three cation sites are occupied, one of them by Mn
    share = torch.bincount(manganese, minlength=3) / 6000
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    occupied = torch.cat([source[:, :2], source[:, 3:4]], dim=1).sort(dim=1).values
    assert (occupied == torch.tensor([0, 1, 2])).all()
    anions = source[:, 5:8].sort(dim=1).values
    assert (anions == torch.tensor([5, 6, 7])).all()


def test_description_depends_only_on_the_first_cation() -> None:
    system = ChemicalSystem(caps={"Mg": 1, "O": 4})
    rng = np.random.default_rng(1)
    cell = Lattice.from_parameters(4.0, 4.9, 6.1, 83, 95, 101)
    crystal = Structure(cell, ["Mg"] + ["O"] * 4, rng.random((5, 3)))
    equivalent = Structure.from_sites([crystal[i] for i in (0, 4, 2, 1, 3)])
    equivalent.make_supercell([[1, 1, 0], [0, 1, 0], [0, 2, 1]])
    equivalent.translate_sites(range(5), [0.3, 0.1, 0.7])
    images = encode([crystal, equivalent], system)
    data = TrainingFrameworks(images, np.array([[1, 4], [1, 4]]), system)
    assert not np.allclose(images[0], images[1], atol=0.01)
    torch.testing.assert_close(data.vectors[0], data.vectors[1], atol=1e-3, rtol=0)


def test_coverage_loss_is_the_distance_to_the_nearest_framework() -> None:
    data = frameworks()
    torch.manual_seed(0)
    generator = FrameworkGenerator(MG_MN_O, replace(TINY, noise_dim=2))
    latents = torch.randn(9, 1, 2)
    single = [coverage_loss(generator, data, torch.tensor([1]), z[None]) for z in latents]
    best = coverage_loss(generator, data, torch.tensor([1]), latents)
    torch.testing.assert_close(best, torch.stack(single).min())


def test_crystals_are_learned_and_compositions_are_exact(tmp_path) -> None:
    images = encode(crystals(), MG_MN_O)
    counts = decode(images, MG_MN_O).counts
    trained = train(images, counts, MG_MN_O, TINY, max_steps=400, seed=0)
    first, last = trained.history[0], trained.history[-1]
    assert last["coverage"] < first["coverage"] / 5

    half = trained.halved()
    assert half.classifier is None
    loaded = load(half.save_in(tmp_path), system=MG_MN_O)
    assert loaded.sha256 == half.sha256

    proposer = GanProposer(loaded)
    cells, rejections = proposer.read_batch((2, 1, 4), np.random.default_rng(0))
    assert not any(rejections)
    assert (cells.counts == (2, 1, 4)).all()
    parent = as_cations(crystals()[2])
    generated = [s for s in cells.to_structures() if isinstance(s, Structure)]
    matches = [structure_matcher().fit(as_cations(s), parent) for s in generated[:20]]
    assert np.mean(matches) > 0.5
    result = sample(proposer, (3, 1, 4), 2, seed=0)
    assert all(MG_MN_O.counts(s) == (3, 1, 4) for s in result.structures)


def test_only_the_tuned_preset_has_no_classifier() -> None:
    built = {
        name: TrainedGenerator.build(MG_MN_O, replace(parameters, width=0.05), seed=0)
        for name, parameters in PRESETS.items()
    }
    without = [name for name, trained in built.items() if trained.classifier is None]
    assert without == ["tuned"]


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"counts": np.array([[1, 1, 2]] * 5)}, "images"),
        ({"counts": np.array([[1, 2, 3]])}, "counts"),
        ({"images": np.zeros((0, 11, 3), dtype=np.float32)}, "images"),
        ({"weights": np.zeros(5)}, "weights"),
    ],
)
def test_arrays_that_do_not_fit_raise_an_error(
    change: dict[str, np.ndarray], argument: str
) -> None:
    images = encode(crystals(), MG_MN_O)
    arrays = {"images": images, "counts": decode(images, MG_MN_O).counts} | change
    with pytest.raises(ValueError, match=argument):
        TrainingFrameworks(system=MG_MN_O, **arrays)


def test_every_anion_is_a_group_of_its_own() -> None:
    sites = Sites(ChemicalSystem(caps={"Mg": 2, "F": 2, "Mn": 1, "O": 3}))
    assert sites.groups == [[0, 2], [1], [3]]


def test_file_with_networks_that_its_preset_lacks_is_a_user_error() -> None:
    trained = TrainedGenerator.build(MG_MN_O, TINY, seed=0)
    tensors, metadata = deserialize(trained.to_bytes(), "file")
    with pytest.raises(UserError, match="damaged"):
        load(serialize(tensors | {"classifier.weight": torch.zeros(2)}, metadata))
