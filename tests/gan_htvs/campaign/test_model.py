from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import SHIPPED_GENERATOR, structures_in_round
from gan_htvs.core.errors import UserError
from tests.reference_files import VANADIUM_IONS

DEMO = yaml.safe_load((resources.files("launchers.cli") / "templates" / "demo.yaml").read_text())
TRAINS = DEMO | {"generator": {}}
V_O = {
    "name": "v-o",
    "chemical_system": {"caps": {"V": 8, "O": 12}},
    "oxidation_states": {"V": [2, 5], "O": [-2, -2]},
}


def write_campaign(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(
        document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    )
    return path


def test_other_chemical_system(tmp_path):
    campaign = read_campaign(write_campaign(tmp_path, V_O))
    assert (2, 5) in campaign.target_counts
    assert all(2 * v <= 2 * o <= 5 * v for v, o in campaign.target_counts)


def test_default_stages_are_the_published_ones(tmp_path):
    stages = read_campaign(write_campaign(tmp_path, V_O)).stages
    assert [(stage.property, stage.min, stage.max) for stage in stages] == [
        ("energy_above_hull", None, 0.2),
        ("energy_above_hull", None, 0.08),
        ("pourbaix_decomposition_energy", None, 0.8),
        ("band_gap", None, None),
        ("pourbaix_decomposition_energy", None, 0.59),
        ("band_gap", 1.6, 3.0),
    ]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"chemical_system": {"caps": {"Xx": 2, "O": 4}}}, ["caps", "'Xx'"]),
        ({"chemical_system": {"caps": {"Mg": 0, "O": 4}}}, ["caps.Mg", "not 0"]),
        ({"compositions": ["Mg9MnO12"]}, ["compositions", "Mg9MnO12"]),
        ({"compositions": ["MgMnO12"]}, ["compositions", "MgMnO12"]),
        ({"stages": [{"name": "a b", "property": "density"}]}, ["stages.0.name", "a b"]),
        ({"geometry": {"volume_per_atom": [20, 5]}}, ["geometry.volume_per_atom", "empty"]),
        ({"geometry": {"min_distances": {"MgO": 1}}}, ["geometry.min_distances", "'MgO'"]),
        ({"geometry": {"min_distances": {"Mg-O": 100}}}, ["geometry.min_distances", "Mg-O 100 A"]),
        ({"geometry": {"overlap_distances": {"K-O": 1}}}, ["geometry", "K", "Mg-Mn-O"]),
        ({"stages": [{"name": "gap", "property": "band_gap", "min": 3, "max": 1.6}]}, ["min 3"]),
        (
            {"sampling": {"proposers": ["gna"]}},
            ["sampling.proposers", "'gna'", "'substitution'"],
        ),
        ({"sampling": {"proposers": ["gan", "gan"]}}, ["sampling", "'gan'"]),
        (
            {"sampling": {"proposers": []}},
            ["sampling.proposers", "structures.path"],
        ),
        ({"sampling": None}, ["sampling: ", "null"]),
        ({"compositions": "MgMn2O4"}, ["compositions: ", "'MgMn2O4'"]),
        ({"stages": [{"name": "rejected", "property": "density"}]}, ["stages.0", "rejected"]),
        ({"stages": [{"name": "dense", "property": "hardness"}]}, ["hardness", "density"]),
        ({"pourbaix": None}, ["pourbaix", "pourbaix_metastable"]),
        (
            {"generator": {"overrides": {"critic_learning_rate": float("nan")}}},
            ["generator.overrides.critic_learning_rate", "nan"],
        ),
        (
            {"generator": {"rounds": 2}, "sampling": {"proposers": ["random"]}},
            ["generator.rounds (2)", "'gan'", "sampling.proposers"],
        ),
        ({"generator": {"rounds": 2}, "prescreen": None}, ["generator.rounds (2)", "prescreen"]),
        (
            {"generator": {"rounds": 4}, "sampling": {"structures_per_composition": 3}},
            ["generator.rounds (4)", "structures_per_composition (3)"],
        ),
        (
            {"generator": {"rounds": 2, "round_max_structures": 1999}},
            ["generator.round_max_structures (1999)", "dataset.max_structures (2000)"],
        ),
        ({"smapling": {}}, ["smapling", "'sampling'"]),
        ({"generator": {"presett": "paper"}}, ["generator.presett", "'preset'"]),
        ({"generator": {"overrides": {"lambda_9": 1}}}, ["generator.overrides", "lambda_9"]),
        ({"oxidation_states": {"Mg": [2, 2]}}, ["oxidation_states", "Mg, Mn, O"]),
        ({"dataset": {"source": "array"}}, ["dataset", "path"]),
        ({"name": "no spaces please"}, ["name: 'no spaces please'"]),
        ({"name": "newline\n"}, ["name: "]),
        ({"chemical_system": None}, ["chemical_system"]),
    ],
)
def test_invalid_settings_are_user_errors_with_file_and_field(tmp_path, change, parts):
    path = write_campaign(tmp_path, DEMO | change)
    with pytest.raises(UserError) as error:
        read_campaign(path)
    message = str(error.value)
    assert "\n" not in message
    for part in [str(path), *parts]:
        assert part in message


def test_unknown_keys_are_reported_before_missing_keys(tmp_path):
    text = write_campaign(tmp_path, V_O | {"names": 1}).read_text()
    path = write_campaign(tmp_path, text.replace("chemical_system", "chemical_system_"))
    with pytest.raises(UserError, match="'chemical_system_'"):
        read_campaign(path)


@pytest.mark.parametrize("text", ["a: [1,", "- just\n- a list", "", "\x00"])
def test_invalid_files_are_user_errors(tmp_path, text):
    path = write_campaign(tmp_path, text)
    with pytest.raises(UserError, match=r"campaign\.yaml"):
        read_campaign(path)


def test_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        read_campaign(tmp_path / "nowhere.yaml")


def test_array_path_is_relative_to_the_campaign_and_hashed(tmp_path):
    document = TRAINS | {"dataset": {"source": "array", "path": "images.npy"}}
    path = write_campaign(tmp_path, document)
    with pytest.raises(UserError, match=r"dataset\.path"):
        read_campaign(path)
    (tmp_path / "images.npy").write_bytes(b"one")
    first = read_campaign(path)
    assert first.dataset.path == tmp_path / "images.npy"
    (tmp_path / "images.npy").write_bytes(b"two")
    assert read_campaign(path).dataset.sha256 != first.dataset.sha256


def test_checkpoint_is_hashed(tmp_path):
    checkpoint = tmp_path / "generator.safetensors"
    text = (
        "name: trained\n"
        "chemical_system: {caps: {Mg: 8, Mn: 8, O: 12}}\n"
        "oxidation_states: {Mg: [2, 2], Mn: [2, 4], O: [-2, -2]}\n"
        "generator: {checkpoint: generator.safetensors}\n"
    )
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"generator\.checkpoint"):
        read_campaign(path)
    checkpoint.write_bytes(b"one")
    first = read_campaign(path)
    assert first.generator.checkpoint == checkpoint
    checkpoint.write_bytes(b"two")
    assert read_campaign(path).generator.sha256 != first.generator.sha256
    path.write_text(
        text.replace("generator.safetensors}", f"generator.safetensors, sha256: {'0' * 64}}}")
    )
    with pytest.raises(UserError, match=r"generator.sha256"):
        read_campaign(path)


def test_shipped_generator_keeps_its_name(tmp_path):
    campaign = read_campaign(write_campaign(tmp_path, DEMO))
    assert campaign.generator.checkpoint == Path("shipped")
    assert campaign.generator.checkpoint_file == SHIPPED_GENERATOR
    assert campaign.generator.sha256 is not None
    other = read_campaign(write_campaign(tmp_path, V_O | {"generator": {"checkpoint": "shipped"}}))
    assert other.generator.sha256 == campaign.generator.sha256


def test_shipped_generator_with_another_hash_is_refused(tmp_path):
    path = write_campaign(
        tmp_path, DEMO | {"generator": {"checkpoint": "shipped", "sha256": "0" * 64}}
    )
    with pytest.raises(UserError, match=r"generator\.sha256"):
        read_campaign(path)


def test_file_of_ions_is_relative_to_the_campaign_and_hashed(tmp_path):
    path = write_campaign(tmp_path, V_O | {"pourbaix": {"ion_file": "ions.yaml"}})
    with pytest.raises(UserError, match=r"pourbaix\.ion_file"):
        read_campaign(path)
    (tmp_path / "ions.yaml").write_text(VANADIUM_IONS)
    first = read_campaign(path).pourbaix
    assert (first.ion_file, first.ion_set) == (tmp_path / "ions.yaml", "mine-1")
    (tmp_path / "ions.yaml").write_text(VANADIUM_IONS.replace("-446.47", "-446.5"))
    assert read_campaign(path).pourbaix.sha256 != first.sha256
    named = {"ion_file": "ions.yaml", "sha256": first.sha256}
    with pytest.raises(UserError, match=r"pourbaix\.sha256"):
        read_campaign(write_campaign(tmp_path, V_O | {"pourbaix": named}))


@pytest.mark.parametrize(
    "settings", [{"ion_set": "none-0"}, {"ion_set": "78-elements-1", "ion_file": "ions.yaml"}]
)
def test_unknown_table_of_ions_is_a_user_error(settings, tmp_path):
    (tmp_path / "ions.yaml").write_text(VANADIUM_IONS)
    with pytest.raises(UserError, match=r"campaign\.yaml: pourbaix\.ion_set"):
        read_campaign(write_campaign(tmp_path, V_O | {"pourbaix": settings}))


@pytest.mark.parametrize(
    ("n_structures", "n_rounds", "numbers"), [(7, 3, [3, 2, 2]), (3, 3, [1, 1, 1]), (5, 1, [5])]
)
def test_structures_are_divided_over_rounds(n_structures, n_rounds, numbers):
    parts = [structures_in_round(n_structures, n_rounds, n + 1) for n in range(n_rounds)]
    assert parts == numbers
