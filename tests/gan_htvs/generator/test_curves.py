from __future__ import annotations

import csv
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.generator.curves import LearningCurves, format_losses, latest_entry

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("wasserstein", "gradient_penalty", "class_real", "class_generated")


def entry(step: int, offset: float = 0.0) -> dict[str, float]:
    return {"step": float(step)} | {name: step / (i + 1) + offset for i, name in enumerate(NAMES)}


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_entries_are_written_immediately(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with LearningCurves(folder) as curves:
        for step in (10, 20, 30):
            curves(entry(step))
            assert rows(folder)[-1] == entry(step)
    assert rows(folder) == [entry(10), entry(20), entry(30)]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def interrupted(folder: Path, *steps: int) -> None:
    curves = LearningCurves(folder)
    for step in steps:
        curves(entry(step))


def history(*steps: int) -> list[dict[str, float]]:
    # Keys in alphabetical order, as JSON returns them.
    return [dict(sorted(entry(step).items())) for step in steps]


def test_repeated_steps_of_a_resumed_training_replace_the_old_ones(tmp_path: Path) -> None:
    interrupted(tmp_path, 10, 20, 30)
    with LearningCurves(tmp_path) as resumed:
        resumed(*history(10))
        assert rows(tmp_path) == [entry(10)]
        resumed(entry(20, offset=0.5))
        resumed(entry(30, offset=0.5))
    assert rows(tmp_path) == [entry(10), entry(20, 0.5), entry(30, 0.5)]


def test_curves_of_another_preset_are_replaced(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    other = {"step": 10.0, "wasserstein": 1.0, "gradient_penalty": 0.5, "coverage": 0.25}
    with LearningCurves(tmp_path) as tuned:
        tuned(other)
    assert rows(tmp_path) == [other]
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("lost", [1, 4, 20])
def test_truncated_line_is_written_again(tmp_path: Path, lost: int) -> None:
    interrupted(tmp_path, 10, 20, 30)
    text = (tmp_path / "curves.csv").read_text()
    (tmp_path / "curves.csv").write_text(text[:-lost])
    with LearningCurves(tmp_path) as resumed:
        resumed(*history(10, 20))
        resumed(entry(30))
        resumed(entry(40))
    assert rows(tmp_path) == [entry(10), entry(20), entry(30), entry(40)]


def test_curves_in_a_new_folder_begin_with_the_history(tmp_path: Path) -> None:
    with LearningCurves(tmp_path / "new") as resumed:
        resumed(*history(10, 20))
    assert rows(tmp_path / "new") == [entry(10), entry(20)]
    assert (tmp_path / "new" / "curves.png").exists()


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    processing = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with LearningCurves(tmp_path) as curves:
        for step in (10, 20, 30):
            curves(entry(step))
    time.sleep(1.1)  # TensorBoard orders files by start time in seconds
    with LearningCurves(tmp_path) as resumed:
        resumed(*history(10))
        resumed(entry(20, offset=0.5))
    events = processing.EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(NAMES)
    values = [(event.step, event.value) for event in events.Scalars("wasserstein")]
    assert values == [(10, 10.0), (20, 20.5)]


def test_csv_and_figure_are_written_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with LearningCurves(tmp_path) as curves:
        assert "gan-htvs[curves]" in (curves.note or "")
        curves(entry(10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "curves.png"]


def test_other_csv_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"curves\.csv"):
        LearningCurves(tmp_path)


def test_unwritable_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"curves\.csv"):
        LearningCurves(tmp_path / "file")(entry(1))


def test_latest_entry_is_the_last_complete_line(tmp_path: Path) -> None:
    assert latest_entry(tmp_path) is None
    with LearningCurves(tmp_path) as curves:
        curves(entry(10))
        curves(entry(20))
    assert latest_entry(tmp_path) == entry(20)
    assert format_losses({"step": 20.0, "wasserstein": 0.25}) == "wasserstein 0.250"
    (tmp_path / "curves.csv").write_text("step,wasserstein\n10,0.1\n20,")
    assert latest_entry(tmp_path) == {"step": 20.0}
