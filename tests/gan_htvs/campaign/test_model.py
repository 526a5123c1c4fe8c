from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import SHIPPED_GENERATOR
from gan_htvs.core.errors import UserError

DEMO = yaml.safe_load((resources.files("launchers.cli") / "templates" / "demo.yaml").read_text())
TRAINS = DEMO | {"generator": {}}
V_O = {
    "name": "v-o",
    "chemical_system": {"caps": {"V": 8, "O": 12}},
    "oxidation_states": {"V": [2, 5], "O": [-2, -2]},
}


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(
        document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    )
    return path


def test_another_chemical_system_needs_configuration_alone(tmp_path):
    campaign = read_campaign(written(tmp_path, V_O))
    assert (2, 5) in campaign.target_counts
    assert all(2 * v <= 2 * o <= 5 * v for v, o in campaign.target_counts)


def test_defaults_are_those_of_the_published_study(tmp_path):
    thresholds = read_campaign(written(tmp_path, V_O)).thresholds
    assert (thresholds.metastable, thresholds.synthesizable) == (0.200, 0.080)
    assert (thresholds.pourbaix_screen, thresholds.pourbaix) == (0.8, 0.59)
    assert thresholds.band_gap == (1.6, 3.0)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"chemical_system": {"caps": {"Xx": 2, "O": 4}}}, ["caps", "'Xx'", "not a chemical"]),
        ({"chemical_system": {"caps": {"Mg": 0, "O": 4}}}, ["caps.Mg", "not 0"]),
        ({"compositions": ["Mg9MnO12"]}, ["compositions", "Mg9MnO12", "must have 1 to 8"]),
        ({"compositions": ["MgMnO12"]}, ["compositions", "MgMnO12", "charge-neutral"]),
        ({"thresholds": {"metastable": -0.1}}, ["thresholds.metastable", "-0.1"]),
        ({"thresholds": {"band_gap": [3.0, 1.6]}}, ["thresholds", "band_gap"]),
        (
            {"sampling": {"proposers": ["gna"]}},
            ["sampling.proposers", "'gan', 'random', 'symmetric' or 'substitution', not 'gna'"],
        ),
        ({"sampling": {"proposers": ["gan", "gan"]}}, ["sampling", "'gan' twice"]),
        (
            {"sampling": {"proposers": []}},
            ["sampling.proposers is empty", "set structures.path"],
        ),
        ({"sampling": None}, ["sampling: must be a mapping, not null."]),
        ({"compositions": "MgMn2O4"}, ["compositions: must be a list, not 'MgMn2O4'."]),
        ({"thresholds": {"synthesizable": 0.3}}, ["synthesizable 0.3", "metastable 0.2"]),
        ({"thresholds": {"pourbaix": 0.9}}, ["pourbaix 0.9", "pourbaix_screen 0.8"]),
        (
            {"generator": {"overrides": {"critic_learning_rate": float("nan")}}},
            ["generator.overrides.critic_learning_rate: input should be a finite number, not nan."],
        ),
        ({"smapling": {}}, ["smapling", "perhaps 'sampling'"]),
        ({"generator": {"presett": "paper"}}, ["generator.presett", "perhaps 'preset'"]),
        ({"generator": {"overrides": {"lambda_9": 1}}}, ["generator.overrides", "lambda_9"]),
        ({"oxidation_states": {"Mg": [2, 2]}}, ["oxidation_states", "Mg, Mn, O"]),
        ({"dataset": {"source": "array"}}, ["dataset", "path"]),
        ({"name": "no spaces please"}, ["name: 'no spaces please' must be 1 to 64 letters"]),
        ({"name": "newline\n"}, ["name: "]),
        ({"chemical_system": None}, ["chemical_system"]),
    ],
)
def test_wrong_settings_get_one_sentence_with_file_and_field(tmp_path, change, names):
    path = written(tmp_path, DEMO | change)
    with pytest.raises(UserError) as error:
        read_campaign(path)
    sentence = str(error.value)
    assert "\n" not in sentence
    for part in [str(path), *names]:
        assert part in sentence


def test_of_several_typos_the_first_is_told_and_not_what_they_leave_missing(tmp_path):
    text = written(tmp_path, V_O | {"names": 1}).read_text()
    path = written(tmp_path, text.replace("chemical_system", "chemical_system_"))
    with pytest.raises(UserError, match="'chemical_system_'; perhaps 'chemical_system'"):
        read_campaign(path)


@pytest.mark.parametrize("text", ["a: [1,", "- just\n- a list", "", "\x00"])
def test_files_that_are_no_campaign_are_named(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=r"campaign\.yaml"):
        read_campaign(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: not found"):
        read_campaign(tmp_path / "nowhere.yaml")


def test_an_array_is_found_beside_the_campaign_and_known_by_its_content(tmp_path):
    document = TRAINS | {"dataset": {"source": "array", "path": "images.npy"}}
    path = written(tmp_path, document)
    with pytest.raises(UserError, match=r"dataset\.path"):
        read_campaign(path)
    (tmp_path / "images.npy").write_bytes(b"one")
    first = read_campaign(path)
    assert first.dataset.path == tmp_path / "images.npy"
    (tmp_path / "images.npy").write_bytes(b"two")
    assert read_campaign(path).dataset.sha256 != first.dataset.sha256


def test_a_campaign_with_a_checkpoint_is_known_by_its_content(tmp_path):
    checkpoint = tmp_path / "generator.safetensors"
    text = (
        "name: adopted\n"
        "chemical_system: {caps: {Mg: 8, Mn: 8, O: 12}}\n"
        "oxidation_states: {Mg: [2, 2], Mn: [2, 4], O: [-2, -2]}\n"
        "generator: {checkpoint: generator.safetensors}\n"
    )
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"generator\.checkpoint: there is no file"):
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


def test_the_shipped_generator_belongs_to_no_path_and_one_chemical_system(tmp_path):
    campaign = read_campaign(written(tmp_path, DEMO))
    assert campaign.generator.checkpoint == Path("shipped")
    assert campaign.generator.checkpoint_file == SHIPPED_GENERATOR
    assert campaign.generator.sha256 is not None
    other = read_campaign(written(tmp_path, V_O | {"generator": {"checkpoint": "shipped"}}))
    assert other.generator.sha256 == campaign.generator.sha256


def test_another_shipped_generator_than_the_recorded_one_is_refused(tmp_path):
    path = written(tmp_path, DEMO | {"generator": {"checkpoint": "shipped", "sha256": "0" * 64}})
    with pytest.raises(UserError, match=r"generator\.sha256"):
        read_campaign(path)
