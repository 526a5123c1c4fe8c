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
from gan_htvs.generator.checkpoint import (
    TrainedGenerator,
    TrainingState,
    deserialize,
    serialize,
)
from gan_htvs.generator.networks import expected_presence
from gan_htvs.generator.presets import PRESETS, TrainingParameters
from gan_htvs.generator.processor import Processor
from gan_htvs.generator.training import Trainer, train

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

V_O = ChemicalSystem(caps={"V": 2, "O": 5})
TINY = replace(PRESETS["paper"], width=0.05, noise_dim=8, batch_size=8, critic_steps=2)
TUNED = replace(PRESETS["tuned"], width=0.02, batch_size=8, coverage_tries=3)


def weights(trained: TrainedGenerator) -> torch.Tensor:
    tensors = trained.generator.state_dict().values()
    return torch.cat([tensor.flatten().double() for tensor in tensors])


def test_generator_learns_the_composition(images: np.ndarray, counts: np.ndarray) -> None:
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
    requested = torch.tensor([[1, 2], [2, 5]]).repeat(50, 1)
    with torch.no_grad():
        generated = trained.generator(torch.randn(100, 8, generator=torch.Generator()), requested)
        readings = trained.classifier(generated)
    predicted = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
    assert (predicted == requested).all(dim=1).float().mean() > 0.8
    first, last = trained.history[0], trained.history[-1]
    assert last["class_generated"] < first["class_generated"] / 2
    assert last["class_real"] < first["class_real"] / 2


@pytest.mark.parametrize("parameters", [TINY, TUNED], ids=["paper", "tuned"])
def test_resumed_training_equals_an_uninterrupted_one(
    images: np.ndarray, counts: np.ndarray, parameters: TrainingParameters, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(entry: dict[str, float]) -> None:
        if entry["step"] == 5:
            raise Killed

    uninterrupted = train(images, counts, V_O, parameters, max_steps=8, seed=3, log_steps=1)
    path = tmp_path / "training.safetensors"
    run = partial(
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
        run(on_progress=kill, checkpoint_seconds=0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

    steps: list[float] = []
    resumed = run(on_progress=lambda entry: steps.append(entry["step"]))
    assert steps == [5, 6, 7, 8]
    torch.testing.assert_close(weights(resumed), weights(uninterrupted), rtol=0, atol=0)
    assert resumed.history == uninterrupted.history

    again = run(on_progress=lambda entry: pytest.fail("trained a finished step"))
    assert again.sha256 == resumed.sha256


PROGRAM = """
import json, signal, sys, time
from pathlib import Path
import numpy as np
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.presets import TrainingParameters
from gan_htvs.generator.training import train

arrays = np.load(sys.argv[1])
def report(entry):
    print(int(entry["step"]), flush=True)
    time.sleep(0.05)
train(arrays["images"], arrays["counts"], ChemicalSystem(caps={"V": 2, "O": 5}),
      TrainingParameters(**json.loads(sys.argv[3])), max_steps=10**6, seed=3, log_steps=1,
      checkpoint_path=Path(sys.argv[2]), checkpoint_seconds=float(sys.argv[4]), on_progress=report)
"""


@pytest.mark.parametrize(
    ("signum", "checkpoint_seconds"), [(signal.SIGKILL, 0), (signal.SIGUSR1, 1000)]
)
def test_killed_process_resumes_without_loss(
    images: np.ndarray,
    counts: np.ndarray,
    tmp_path: Path,
    signum: signal.Signals,
    checkpoint_seconds: float,
) -> None:
    """SIGKILL leaves the last checkpoint; SIGUSR1 writes one before the process ends."""
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

    run = partial(train, images, counts, V_O, TINY, max_steps=40, seed=3, log_steps=1)
    steps: list[float] = []
    resumed = run(checkpoint_path=path, on_progress=lambda entry: steps.append(entry["step"]))
    assert steps[0] > 3
    assert resumed.history == run().history


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signal_handler_runs_after_the_state_is_written(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path, signum: signal.Signals
) -> None:
    path = tmp_path / "training.safetensors"
    state_exists: list[bool] = []

    def handler(_signum: int, _frame: FrameType | None) -> None:
        state_exists.append(path.exists())

    def send(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            signal.raise_signal(signum)
            assert not state_exists

    before = signal.signal(signum, handler)
    try:
        with pytest.raises(UserError, match=f"{signum.name} after step 3"):
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
    assert state_exists == [True]


def test_training_works_outside_the_main_thread(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    steps: list[int] = []
    path = tmp_path / "training.safetensors"
    run = partial(train, images, counts, V_O, TINY, max_steps=2, seed=3, checkpoint_path=path)
    thread = threading.Thread(target=lambda: steps.append(run().steps))
    thread.start()
    thread.join()
    assert steps == [2]


def test_signals_are_not_deferred_without_a_checkpoint(
    images: np.ndarray, counts: np.ndarray
) -> None:
    def interrupt(_entry: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)

    # Shells start background processes with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(
                images, counts, V_O, TINY, max_steps=9, seed=3, log_steps=1, on_progress=interrupt
            )
    finally:
        signal.signal(signal.SIGINT, before)


def test_losses_in_bfloat16_are_close_to_float32(images: np.ndarray, counts: np.ndarray) -> None:
    run = partial(train, images, counts, V_O, TINY, max_steps=30, seed=3, log_steps=1, device="cpu")
    exact, rounded = run(precision="float32").history, run(precision="bfloat16").history
    assert exact != rounded
    for name in ("class_real", "class_generated", "gradient_penalty"):
        values, reference = (np.array([entry[name] for entry in h]) for h in (rounded, exact))
        assert values == pytest.approx(reference, rel=0.1, abs=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_a_user_error(images: np.ndarray, counts: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"generator\.device: 'cuda'"):
        train(images, counts, V_O, TINY, max_steps=1, seed=0, device="cuda")
    assert Processor.choose().device.type == "cpu"


@pytest.mark.parametrize("setting", ["device", "precision"])
def test_unknown_processor_setting_is_a_user_error(setting: str) -> None:
    with pytest.raises(UserError, match=f"generator.{setting}: 'tpu'"):
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


def test_conditions_are_c_gen_or_all_cells_within_the_caps(
    images: np.ndarray, counts: np.ndarray
) -> None:
    conditions = torch.tensor([[1, 2], [2, 4]])
    paper = trainer(images, counts, replace(TINY, batch_size=500), conditions)
    _, drawn = paper.draw_inputs()
    assert set(map(tuple, drawn.tolist())) == {(1, 2), (2, 4)}
    uniform = trainer(
        images, counts, replace(TINY, batch_size=500, uniform_conditions=1), conditions
    )
    _, drawn = uniform.draw_inputs()
    assert set(map(tuple, drawn.tolist())) == {(v, o) for v in (1, 2) for o in (1, 2, 3, 4, 5)}


def test_noise_is_added_to_the_padding_only(images: np.ndarray, counts: np.ndarray) -> None:
    clean = torch.as_tensor(images)
    assert trainer(images, counts, TINY).add_padding_noise(clean).equal(clean)
    noisy = replace(TINY, padding_noise_mean=1e-3, padding_noise_std=10**-2.5)
    many = clean.repeat(300, 1, 1)
    blurred = trainer(images, counts, noisy).add_padding_noise(many)
    present = expected_presence(torch.as_tensor(counts), V_O.max_counts).repeat(300, 1)
    assert blurred[:, :2].equal(many[:, :2])
    assert blurred[:, 2:][present].equal(many[:, 2:][present])
    noise = blurred[:, 2:][~present]
    assert (noise >= 0).all()
    # The mean of a folded normal distribution with mean 1e-3 and deviation 3.162e-3.
    assert noise.mean().item() == pytest.approx(2.648e-3, rel=0.03)


def test_classifier_of_the_authors_preset_learns(images: np.ndarray, counts: np.ndarray) -> None:
    quick = dict.fromkeys(
        ("critic_learning_rate", "generator_learning_rate", "classifier_learning_rate"), 2e-3
    )
    parameters = replace(PRESETS["authors"], width=0.05, noise_dim=8, batch_size=8, **quick)
    history = train(images, counts, V_O, parameters, max_steps=30, seed=0).history
    assert history[-1]["class_real"] < history[0]["class_real"]


def test_checkpoint_of_another_training_is_a_user_error(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "training.safetensors"
    train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)
    with pytest.raises(UserError, match="another training"):
        train(images, counts, V_O, TINY, max_steps=1, seed=4, checkpoint_path=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="remove it"):
        train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)


def test_max_steps_below_the_state_is_a_user_error(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    run = partial(train, images, counts, V_O, TINY, seed=3, checkpoint_path=tmp_path / "state")
    assert run(max_steps=3).steps == run(max_steps=3).steps == 3
    with pytest.raises(UserError, match=r"generator\.max_steps is 2"):
        run(max_steps=2)


@pytest.mark.parametrize("parameters", [TINY, TUNED], ids=["paper", "tuned"])
def test_training_starts_from_a_generator(
    images: np.ndarray, counts: np.ndarray, parameters: TrainingParameters, tmp_path: Path
) -> None:
    run = partial(train, images, counts, V_O, parameters, seed=0)
    first = run(max_steps=2)
    path = tmp_path / "training.safetensors"
    unchanged = run(max_steps=0, start=first, checkpoint_path=path)
    assert unchanged.steps == 0
    assert weights(unchanged).equal(weights(first))
    assert not weights(run(max_steps=1, start=first)).equal(weights(first))
    with pytest.raises(UserError, match="another training"):
        run(max_steps=1, checkpoint_path=path)
    other = TrainedGenerator.build(V_O, replace(parameters, width=0.03), seed=0)
    with pytest.raises(UserError, match="other parameters"):
        run(max_steps=1, start=other)


def test_time_limit_stops_and_seed_determines_a_training(
    images: np.ndarray, counts: np.ndarray
) -> None:
    limited = train(images, counts, V_O, TINY, max_steps=10**6, max_seconds=0.3, seed=0)
    assert 0 < limited.steps < 10**5
    assert limited.history[-1]["step"] == limited.steps
    first, same, other = (
        weights(train(images, counts, V_O, TINY, max_steps=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_diverged_loss_is_a_user_error_with_the_step(
    images: np.ndarray, counts: np.ndarray
) -> None:
    diverging = replace(TINY, critic_learning_rate=1e30)
    with pytest.raises(UserError, match=r"not finite at step [0-9]+"):
        train(images, counts, V_O, diverging, max_steps=20, seed=0, log_steps=1)


def test_weights_that_are_not_finite_are_not_written(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "training.safetensors"
    diverging = replace(TINY, generator_learning_rate=1e38)
    with pytest.raises(UserError, match=r"generator\..* after step 1"):
        train(images, counts, V_O, diverging, max_steps=1, seed=0, checkpoint_path=path)
    assert not path.exists()
    with pytest.raises(UserError, match="after step 1"):
        train(images, counts, V_O, diverging, max_steps=1, seed=0)


@pytest.mark.parametrize(
    "damage", [{"step": None}, {"history": None}, {"history": 3}, {"seconds": "long"}]
)
def test_damaged_state_is_a_user_error(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path, damage: dict[str, object]
) -> None:
    path = tmp_path / "training.safetensors"
    run = partial(train, images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)
    run()
    tensors, metadata = deserialize(path.read_bytes(), "state")
    path.write_bytes(serialize(tensors, metadata | damage))
    with pytest.raises(UserError, match="damaged"):
        run()


def test_arrays_that_do_not_fit_the_system_raise_an_error(
    images: np.ndarray, counts: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="images of shape"):
        train(images[:, :-1], counts, V_O, TINY, max_steps=1, seed=0)
    with pytest.raises(ValueError, match="between 1 and"):
        train(images, counts * 0, V_O, TINY, max_steps=1, seed=0)
