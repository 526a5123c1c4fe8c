from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.generator.augmentation import TrainingImages
from gan_htvs.generator.checkpoint import TrainingState, pack, unpack
from gan_htvs.generator.networks import expected_presence
from gan_htvs.generator.presets import PRESETS, TrainingParameters
from gan_htvs.generator.processor import Processor
from gan_htvs.generator.training import Trainer, train

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from gan_htvs.generator.checkpoint import TrainedGenerator

V_O = ChemicalSystem(caps={"V": 2, "O": 5})
TINY = replace(PRESETS["paper"], width=0.05, noise_dim=8, batch_size=8, critic_steps=2)


TUNED = replace(PRESETS["tuned"], width=0.02, batch_size=8, coverage_tries=3)


def weights(trained: TrainedGenerator) -> torch.Tensor:
    tensors = trained.generator.state_dict().values()
    return torch.cat([tensor.flatten().double() for tensor in tensors])


def test_the_generator_learns_the_composition(images: np.ndarray, counts: np.ndarray) -> None:
    quick = replace(
        TINY,
        width=0.1,
        batch_size=32,
        critic_steps=1,
        generator_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        classifier_learning_rate=3e-3,
    )
    trained = train(images, counts, V_O, quick, max_steps=120, seed=0)
    asked = torch.tensor([[1, 2], [2, 5]]).repeat(50, 1)
    with torch.no_grad():
        generated = trained.generator(torch.randn(100, 8, generator=torch.Generator()), asked)
        readings = trained.classifier(generated)
    read = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
    assert (read == asked).all(dim=1).float().mean() > 0.8
    first, last = trained.history[0], trained.history[-1]
    assert last["class_generated"] < first["class_generated"] / 2
    assert last["class_real"] < first["class_real"] / 2


@pytest.mark.parametrize("parameters", [TINY, TUNED], ids=["paper", "tuned"])
def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    images: np.ndarray, counts: np.ndarray, parameters: TrainingParameters, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(entry: dict[str, float]) -> None:
        if entry["step"] == 5:
            raise Killed

    undisturbed = train(images, counts, V_O, parameters, max_steps=8, seed=3, log_steps=1)
    path = tmp_path / "training.safetensors"
    go = partial(
        train,
        images,
        counts,
        V_O,
        parameters,
        max_steps=8,
        seed=3,
        log_steps=1,
        checkpoint_path=path,
    )
    with pytest.raises(Killed):
        go(on_progress=kill, checkpoint_seconds=0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

    seen: list[float] = []
    resumed = go(on_progress=lambda entry: seen.append(entry["step"]))
    assert seen == [5, 6, 7, 8]
    torch.testing.assert_close(weights(resumed), weights(undisturbed), rtol=0, atol=0)
    assert resumed.history == undisturbed.history

    again = go(on_progress=lambda entry: pytest.fail("trained on"))
    assert again.sha256 == resumed.sha256


PROGRAM = """
import json, signal, sys, time
from pathlib import Path
import numpy as np
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.presets import TrainingParameters
from gan_htvs.generator.training import train

arrays = np.load(sys.argv[1])
def tell(entry):
    print(int(entry["step"]), flush=True)
    time.sleep(0.05)
train(arrays["images"], arrays["counts"], ChemicalSystem(caps={"V": 2, "O": 5}),
      TrainingParameters(**json.loads(sys.argv[3])), max_steps=10**6, seed=3, log_steps=1,
      checkpoint_path=Path(sys.argv[2]), checkpoint_seconds=float(sys.argv[4]), on_progress=tell)
"""


@pytest.mark.parametrize(
    ("signum", "checkpoint_seconds"), [(signal.SIGKILL, 0), (signal.SIGUSR1, 1000)]
)
def test_a_killed_process_loses_nothing(
    images: np.ndarray,
    counts: np.ndarray,
    tmp_path: Path,
    signum: signal.Signals,
    checkpoint_seconds: float,
) -> None:
    """SIGKILL finds the last checkpoint, SIGUSR1 writes one and still ends the process."""
    data, path = tmp_path / "data.npz", tmp_path / "training.safetensors"
    np.savez(data, images=images, counts=counts)
    parameters = json.dumps(asdict(TINY))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), str(path), parameters, str(checkpoint_seconds)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 4:
                process.send_signal(signum)
                break
        process.stdout.read()
    assert process.returncode == -signum

    go = partial(train, images, counts, V_O, TINY, max_steps=40, seed=3, log_steps=1)
    seen: list[float] = []
    resumed = go(checkpoint_path=path, on_progress=lambda entry: seen.append(entry["step"]))
    assert seen[0] > 3
    assert resumed.history == go().history


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_handler_of_a_worker_runs_once_the_state_is_written(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path, signum: signal.Signals
) -> None:
    path = tmp_path / "training.safetensors"
    found: list[bool] = []

    def handler(_signum: int, _frame: FrameType | None) -> None:
        found.append(path.exists())

    def send(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            signal.raise_signal(signum)
            assert not found

    before = signal.signal(signum, handler)
    try:
        with pytest.raises(UserError, match=f"stopped by {signum.name} after step 3; its state"):
            train(
                images,
                counts,
                V_O,
                TINY,
                max_steps=9,
                seed=3,
                log_steps=1,
                checkpoint_path=path,
                on_progress=send,
            )
        assert signal.getsignal(signum) is handler
    finally:
        signal.signal(signum, before)
    assert found == [True]


def test_training_in_another_thread_leaves_signals_alone(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    steps: list[int] = []
    path = tmp_path / "training.safetensors"
    go = partial(train, images, counts, V_O, TINY, max_steps=2, seed=3, checkpoint_path=path)
    thread = threading.Thread(target=lambda: steps.append(go().steps))
    thread.start()
    thread.join()
    assert steps == [2]


def test_without_a_checkpoint_a_signal_is_not_held(images: np.ndarray, counts: np.ndarray) -> None:
    def interrupt(_entry: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(images, counts, V_O, TINY, max_steps=9, seed=3, log_steps=1, on_progress=interrupt)


def test_bfloat16_learns_like_float32(images: np.ndarray, counts: np.ndarray) -> None:
    go = partial(train, images, counts, V_O, TINY, max_steps=30, seed=3, log_steps=1, device="cpu")
    exact, rounded = go(precision="float32").history, go(precision="bfloat16").history
    assert exact != rounded
    for name in ("class_real", "class_generated", "gradient_penalty"):
        ours, theirs = (np.array([entry[name] for entry in h]) for h in (rounded, exact))
        assert ours == pytest.approx(theirs, rel=0.1, abs=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(images: np.ndarray, counts: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"'cuda' was asked for, but PyTorch .*; use 'auto' or"):
        train(images, counts, V_O, TINY, max_steps=1, seed=0, device="cuda")
    assert Processor.choose().device.type == "cpu"


@pytest.mark.parametrize("setting", ["device", "precision"])
def test_an_unknown_processor_setting_is_one_sentence(setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting}: 'tpu' is none of auto"):
        Processor.choose(**{setting: "tpu"})


def trainer(
    images: np.ndarray,
    counts: np.ndarray,
    parameters: TrainingParameters,
    conditions: torch.Tensor | None = None,
) -> Trainer:
    data = TrainingImages(images, counts, V_O)
    processor = Processor.choose("cpu", "float32")
    return Trainer(TrainingState.fresh(V_O, parameters, 0), data, conditions, processor)


def test_the_generator_is_asked_for_c_gen_or_for_every_cell(
    images: np.ndarray, counts: np.ndarray
) -> None:
    asked = torch.tensor([[1, 2], [2, 4]])
    paper = trainer(images, counts, replace(TINY, batch_size=500), asked)
    _, drawn = paper._noise_and_counts()
    assert {tuple(each) for each in drawn.tolist()} == {(1, 2), (2, 4)}
    uniform = trainer(images, counts, replace(TINY, batch_size=500, uniform_conditions=1), asked)
    _, drawn = uniform._noise_and_counts()
    assert {tuple(each) for each in drawn.tolist()} == {
        (v, o) for v in (1, 2) for o in (1, 2, 3, 4, 5)
    }


def test_noise_is_on_the_padding_of_real_images_only(
    images: np.ndarray, counts: np.ndarray
) -> None:
    clean = torch.as_tensor(images)
    assert trainer(images, counts, TINY)._with_padding_noise(clean).equal(clean)
    noisy = replace(TINY, padding_noise_mean=1e-3, padding_noise_std=10**-2.5)
    many = clean.repeat(300, 1, 1)
    seen = trainer(images, counts, noisy)._with_padding_noise(many)
    present = expected_presence(torch.as_tensor(counts), V_O.max_counts).repeat(300, 1)
    assert seen[:, :2].equal(many[:, :2])
    assert seen[:, 2:][present].equal(many[:, 2:][present])
    noise = seen[:, 2:][~present]
    assert (noise >= 0).all()
    # The mean of a folded normal distribution with mean 1e-3 and deviation 3.162e-3.
    assert noise.mean().item() == pytest.approx(2.648e-3, rel=0.03)


def test_the_authors_preset_trains(images: np.ndarray, counts: np.ndarray) -> None:
    quick = dict.fromkeys(
        ("critic_learning_rate", "generator_learning_rate", "classifier_learning_rate"), 2e-3
    )
    parameters = replace(PRESETS["authors"], width=0.05, noise_dim=8, batch_size=8, **quick)
    history = train(images, counts, V_O, parameters, max_steps=30, seed=0).history
    assert history[-1]["class_real"] < history[0]["class_real"]


def test_a_checkpoint_of_another_training_is_refused(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "training.safetensors"
    train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)
    with pytest.raises(UserError, match="belongs to another training"):
        train(images, counts, V_O, TINY, max_steps=1, seed=4, checkpoint_path=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"no readable checkpoint .*; remove it\."):
        train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)


def test_steps_already_taken_are_not_taken_back(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    go = partial(train, images, counts, V_O, TINY, seed=3, checkpoint_path=tmp_path / "state")
    assert go(max_steps=3).steps == go(max_steps=3).steps == 3
    with pytest.raises(UserError, match=r"max_steps is 2, but .* has taken 3 steps"):
        go(max_steps=2)


def test_the_time_limit_counts_and_seeds_decide(images: np.ndarray, counts: np.ndarray) -> None:
    limited = train(images, counts, V_O, TINY, max_steps=10**6, max_seconds=0.3, seed=0)
    assert 0 < limited.steps < 10**5
    assert limited.history[-1]["step"] == limited.steps
    first, same, other = (
        weights(train(images, counts, V_O, TINY, max_steps=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_diverged_loss_names_the_step(images: np.ndarray, counts: np.ndarray) -> None:
    wild = replace(TINY, critic_learning_rate=1e30)
    with pytest.raises(UserError, match=r"not finite at step [0-9]+; lower the learning rates"):
        train(images, counts, V_O, wild, max_steps=20, seed=0, log_steps=1)


def test_weights_that_a_step_broke_are_not_written(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "training.safetensors"
    wild = replace(TINY, generator_learning_rate=1e38)
    with pytest.raises(UserError, match=r"generator\..* is not finite after step 1; lower"):
        train(images, counts, V_O, wild, max_steps=1, seed=0, checkpoint_path=path)
    assert not path.exists()
    with pytest.raises(UserError, match="not finite after step 1"):
        train(images, counts, V_O, wild, max_steps=1, seed=0)


@pytest.mark.parametrize(
    "damage", [{"step": None}, {"history": None}, {"history": 3}, {"seconds": "long"}]
)
def test_a_damaged_state_is_told(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path, damage: dict[str, object]
) -> None:
    path = tmp_path / "training.safetensors"
    go = partial(train, images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)
    go()
    tensors, metadata = unpack(path.read_bytes(), "state")
    path.write_bytes(pack(tensors, metadata | damage))
    with pytest.raises(UserError, match="damaged training checkpoint; remove it"):
        go()


def test_arrays_of_another_system_are_refused(images: np.ndarray, counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not belong to O-V"):
        train(images[:, :-1], counts, V_O, TINY, max_steps=1, seed=0)
    with pytest.raises(ValueError, match="between 1 and"):
        train(images, counts * 0, V_O, TINY, max_steps=1, seed=0)
