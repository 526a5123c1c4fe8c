from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import safetensors.torch
import torch

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.generator.checkpoint import TrainedGenerator, deserialize, load, serialize
from gan_htvs.generator.presets import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

V_O = ChemicalSystem(caps={"V": 2, "O": 5})


@pytest.fixture(scope="module")
def trained() -> TrainedGenerator:
    torch.manual_seed(0)
    parameters = replace(PRESETS["paper"], width=0.05, noise_dim=8)
    return replace(
        TrainedGenerator.build(V_O, parameters, seed=5),
        steps=7,
        seconds=1.5,
        history=[{"step": 7.0, "wasserstein": 0.25}],
    )


def test_generator_is_unchanged_after_saving_and_loading(
    trained: TrainedGenerator, tmp_path: Path
) -> None:
    path = trained.save_in(tmp_path / "new")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == trained.sha256
    assert [p.name for p in path.parent.iterdir()] == [path.name]

    loaded = load(path, expected_sha256=digest, system=V_O)
    assert (loaded.system, loaded.parameters) == (trained.system, trained.parameters)
    assert (loaded.seed, loaded.steps, loaded.seconds, loaded.history) == (
        5,
        7,
        1.5,
        trained.history,
    )
    noise, counts = torch.randn(3, 8), torch.tensor([[1, 2]] * 3)
    image = trained.generator(noise, counts)
    torch.testing.assert_close(loaded.generator(noise, counts), image, rtol=0, atol=0)
    readings = zip(trained.classifier(image), loaded.classifier(image), strict=True)
    for expected, reading in readings:
        torch.testing.assert_close(reading.counts, expected.counts, rtol=0, atol=0)
    assert load(path.read_bytes()).sha256 == digest


def test_file_name_contains_its_hash(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = trained.save_in(tmp_path / "model")
    assert path.name == f"generator-{trained.sha256[:12]}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == trained.sha256


def test_content_hash_ignores_time_and_history(trained: TrainedGenerator) -> None:
    slower = replace(trained, seconds=99.0, history=[], steps=8)
    assert slower.sha256 != trained.sha256
    assert slower.content_sha256 == trained.content_sha256
    assert load(trained.to_bytes()).content_sha256 == trained.content_sha256
    different = [
        replace(trained, parameters=replace(trained.parameters, noise_dim=9)),
        replace(trained, system=ChemicalSystem(caps={"V": 2, "O": 6})),
        trained.halved(),
    ]
    assert len({generator.content_sha256 for generator in (trained, *different)}) == 4


def test_float16_weights_halve_the_file_and_keep_the_images(trained: TrainedGenerator) -> None:
    half = trained.halved()
    data = half.to_bytes()
    weights = sum(
        tensor.numel() * tensor.element_size()
        for network in (trained.generator, trained.classifier)
        for tensor in network.state_dict().values()
        if tensor.is_floating_point()
    )
    assert len(trained.to_bytes()) - len(data) == pytest.approx(weights / 2, rel=0.05)
    loaded = load(data)
    assert loaded.half
    assert loaded.sha256 == half.sha256 == hashlib.sha256(data).hexdigest()
    assert loaded.halved().sha256 == half.sha256
    assert loaded.generator.stem.weight.dtype == torch.float32
    noise, counts = torch.randn(3, 8), torch.tensor([[1, 2]] * 3)
    torch.testing.assert_close(
        loaded.generator(noise, counts), trained.generator(noise, counts), atol=1e-3, rtol=0
    )


def test_weight_too_large_for_float16_is_a_user_error() -> None:
    trained = TrainedGenerator.build(V_O, replace(PRESETS["paper"], width=0.05), seed=0)
    trained.generator.norm1.running_var.fill_(1e5)
    with pytest.raises(UserError, match=r"generator\.norm1\.running_var"):
        trained.halved()


def test_changed_and_truncated_files_are_user_errors(trained: TrainedGenerator) -> None:
    data = trained.to_bytes()
    tampered = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(UserError, match="sha256"):
        load(tampered, expected_sha256=trained.sha256)
    for broken in (data[:-5], data[:50], b"", b"\x80\x04pickle"):
        with pytest.raises(UserError, match="readable checkpoint"):
            load(broken)


def test_other_files_are_user_errors(trained: TrainedGenerator, tmp_path: Path) -> None:
    plain = safetensors.torch.save({"x": torch.zeros(2)})
    with pytest.raises(UserError, match="readable checkpoint"):
        load(plain)
    tensors, content = deserialize(trained.to_bytes(), "trained")
    tensors.pop("generator.stem.weight")
    with safetensors.safe_open(trained.save_in(tmp_path), "pt") as file:
        metadata = file.metadata()
    with pytest.raises(UserError, match="was changed"):
        load(safetensors.torch.save(tensors, metadata=metadata))
    with pytest.raises(UserError, match="damaged"):
        load(serialize(tensors, content))
    with pytest.raises(UserError, match=r"none\.safetensors"):
        load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bool, torch.complex64])
def test_other_dtypes_are_a_user_error(trained, dtype):
    tensors, content = deserialize(trained.to_bytes(), "trained")
    tensors["generator.stem.weight"] = tensors["generator.stem.weight"].to(dtype)
    with pytest.raises(UserError, match="damaged"):
        load(serialize(tensors, content))


def test_file_without_digest_is_a_user_error(trained):
    tensors, content = deserialize(trained.to_bytes(), "trained")
    data = safetensors.torch.save(tensors, metadata={"gan_htvs": json.dumps(content)})
    with pytest.raises(UserError, match="was changed"):
        load(data)


@pytest.mark.parametrize("position", [-1, -500])
def test_flipped_bit_is_detected_independent_of_the_file_name(trained, position):
    data = bytearray(trained.to_bytes())
    data[position] ^= 1
    with pytest.raises(UserError, match="was changed"):
        load(bytes(data))


def test_deeply_nested_metadata_are_a_user_error(tmp_path):
    path = tmp_path / "model.safetensors"
    nested = "[" * 100_000 + "]" * 100_000
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}, metadata={"gan_htvs": nested}))
    with pytest.raises(UserError, match="readable checkpoint"):
        load(path)


@pytest.mark.parametrize("caps", [{"V": 2, "O": 6}, {"O": 5, "V": 2}, {"Ti": 2, "O": 5}])
def test_other_chemical_system_is_a_user_error(
    trained: TrainedGenerator, caps: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="V 2, O 5"):
        load(trained.to_bytes(), system=ChemicalSystem(caps=caps))


def test_unwritable_folder_is_a_user_error(trained: TrainedGenerator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"\.safetensors"):
        trained.save_in(tmp_path / "file")


def test_content_must_match_the_hash_in_the_file_name(trained, tmp_path):
    path = trained.save_in(tmp_path)
    assert load(path).steps == trained.steps
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="sha256"):
        load(path)


def test_weights_that_are_not_finite_are_a_user_error(trained, tmp_path):
    broken = TrainedGenerator.build(V_O, trained.parameters, seed=0)
    with torch.no_grad():
        broken.generator.stem.bias[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        load(broken.to_bytes())


@pytest.mark.parametrize("metadata", ["[1, 2]", '"text"', "3"])
def test_metadata_of_another_type_are_a_user_error(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    tensors = {"x": torch.zeros(1)}
    path.write_bytes(safetensors.torch.save(tensors, metadata={"gan_htvs": metadata}))
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(path)
