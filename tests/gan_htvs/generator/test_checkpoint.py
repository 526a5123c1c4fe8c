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
from gan_htvs.generator.checkpoint import TrainedGenerator, load, pack, unpack
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


def test_a_generator_survives_the_file(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = trained.save_in(tmp_path / "new")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == trained.sha256
    assert [p.name for p in path.parent.iterdir()] == [path.name]

    back = load(path, expected_sha256=digest, system=V_O)
    assert (back.system, back.parameters) == (trained.system, trained.parameters)
    assert (back.seed, back.steps, back.seconds, back.history) == (5, 7, 1.5, trained.history)
    noise, counts = torch.randn(3, 8), torch.tensor([[1, 2]] * 3)
    image = trained.generator(noise, counts)
    torch.testing.assert_close(back.generator(noise, counts), image, rtol=0, atol=0)
    for ours, theirs in zip(trained.classifier(image), back.classifier(image), strict=True):
        torch.testing.assert_close(ours.counts, theirs.counts, rtol=0, atol=0)
    assert load(path.read_bytes()).sha256 == digest


def test_the_file_is_named_by_its_content(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = trained.save_in(tmp_path / "model")
    assert path.name == f"generator-{trained.sha256[:12]}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == trained.sha256


def test_the_content_is_what_decides_samples(trained: TrainedGenerator) -> None:
    slower = replace(trained, seconds=99.0, history=[], steps=8)
    assert slower.sha256 != trained.sha256
    assert slower.content_sha256 == trained.content_sha256
    assert load(trained.to_bytes()).content_sha256 == trained.content_sha256
    others = [
        replace(trained, parameters=replace(trained.parameters, noise_dim=9)),
        replace(trained, system=ChemicalSystem(caps={"V": 2, "O": 6})),
        trained.halved(),
    ]
    assert len({each.content_sha256 for each in (trained, *others)}) == 4


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
    back = load(data)
    assert back.half
    assert back.sha256 == half.sha256 == hashlib.sha256(data).hexdigest()
    assert back.halved().sha256 == half.sha256
    assert back.generator.stem.weight.dtype == torch.float32
    noise, counts = torch.randn(3, 8), torch.tensor([[1, 2]] * 3)
    torch.testing.assert_close(
        back.generator(noise, counts), trained.generator(noise, counts), atol=1e-3, rtol=0
    )


def test_what_float16_cannot_hold_is_told_before_it_is_written() -> None:
    trained = TrainedGenerator.build(V_O, replace(PRESETS["paper"], width=0.05), seed=0)
    trained.generator.norm1.running_var.fill_(1e5)
    with pytest.raises(UserError, match=r"generator\.norm1\.running_var is too large for float16"):
        trained.halved()


def test_changed_and_truncated_files_are_refused(trained: TrainedGenerator) -> None:
    data = trained.to_bytes()
    tampered = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(UserError, match="was changed or truncated"):
        load(tampered, expected_sha256=trained.sha256)
    for broken in (data[:-5], data[:50], b"", b"\x80\x04pickle"):
        with pytest.raises(UserError, match="no readable checkpoint"):
            load(broken)


def test_foreign_files_are_refused(trained: TrainedGenerator, tmp_path: Path) -> None:
    plain = safetensors.torch.save({"x": torch.zeros(2)})
    with pytest.raises(UserError, match="no readable checkpoint"):
        load(plain)
    tensors, content = unpack(trained.to_bytes(), "trained")
    tensors.pop("generator.stem.weight")
    with safetensors.safe_open(_written(tmp_path, trained), "pt") as file:
        metadata = file.metadata()
    with pytest.raises(UserError, match="was changed after it was written"):
        load(safetensors.torch.save(tensors, metadata=metadata))
    with pytest.raises(UserError, match="damaged"):
        load(pack(tensors, content))
    with pytest.raises(UserError, match=r"none\.safetensors: cannot read"):
        load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bool, torch.complex64])
def test_weights_of_another_kind_are_refused(trained, dtype):
    tensors, content = unpack(trained.to_bytes(), "trained")
    tensors["generator.stem.weight"] = tensors["generator.stem.weight"].to(dtype)
    with pytest.raises(UserError, match="damaged generator file"):
        load(pack(tensors, content))


def test_an_unsigned_file_is_refused(trained):
    tensors, content = unpack(trained.to_bytes(), "trained")
    data = safetensors.torch.save(tensors, metadata={"gan_htvs": json.dumps(content)})
    with pytest.raises(UserError, match="was changed after it was written"):
        load(data)


@pytest.mark.parametrize("where", [-1, -500])
def test_a_flipped_bit_is_noticed_under_any_name(trained, where):
    data = bytearray(trained.to_bytes())
    data[where] ^= 1
    with pytest.raises(UserError, match="was changed after it was written"):
        load(bytes(data))


def test_metadata_without_end_are_told(tmp_path):
    path = tmp_path / "model.safetensors"
    nested = "[" * 100_000 + "]" * 100_000
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}, metadata={"gan_htvs": nested}))
    with pytest.raises(UserError, match="no readable checkpoint"):
        load(path)


def _written(folder: Path, trained: TrainedGenerator) -> Path:
    return trained.save_in(folder)


@pytest.mark.parametrize("caps", [{"V": 2, "O": 6}, {"O": 5, "V": 2}, {"Ti": 2, "O": 5}])
def test_another_chemical_system_is_refused(
    trained: TrainedGenerator, caps: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="was trained for V 2, O 5, not for"):
        load(trained.to_bytes(), system=ChemicalSystem(caps=caps))


def test_an_unwritable_folder_is_one_sentence(trained: TrainedGenerator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"\.safetensors: cannot be written"):
        trained.save_in(tmp_path / "file")


def test_a_file_named_by_its_content_is_held_to_its_name(trained, tmp_path):
    path = trained.save_in(tmp_path)
    assert load(path).steps == trained.steps
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="was changed or truncated"):
        load(path)


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    broken = TrainedGenerator.build(V_O, trained.parameters, seed=0)
    with torch.no_grad():
        broken.generator.stem.bias[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        load(broken.to_bytes())


@pytest.mark.parametrize("metadata", ["[1, 2]", '"text"', "3"])
def test_metadata_of_another_kind_are_told_in_one_sentence(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    tensors = {"x": torch.zeros(1)}
    path.write_bytes(safetensors.torch.save(tensors, metadata={"gan_htvs": metadata}))
    with pytest.raises(UserError, match=r"model\.safetensors: is no"):
        load(path)
