from __future__ import annotations

import pytest

from gan_htvs.campaign.routing import Category
from gan_htvs.core.errors import UserError
from launchers.launchpad.batch_system import BatchSystem
from launchers.queue.profiles import clock_of, profiles_of, seconds_of


@pytest.mark.parametrize(
    ("text", "system", "hours"),
    [
        ("00:10:00", None, 1 / 6),
        ("48:00:00", None, 48),
        ("2-00:00:00", None, 48),
        ("1-12:30:05", None, 36 + 30 / 60 + 5 / 3600),
        ("24:00:00", "slurm", 24),
        ("1-06:00:00", "slurm", 30),
        ("1-6", "slurm", 30),
        ("1-06:30", "slurm", 30.5),
        ("1440", "slurm", 24),
        ("1440:00", "slurm", 24),
        ("24:00:00", "pbs", 24),
        ("86400", "pbs", 24),
        ("1440:00", "pbs", 24),
        ("24::0", "sge", 24),
        ("86400", "sge", 24),
    ],
)
def test_times_have_the_forms_of_batch_systems(text, system, hours):
    seconds = seconds_of(text, system and BatchSystem(system))
    assert seconds == pytest.approx(hours * 3600)
    assert seconds_of(clock_of(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "system"),
    [
        *(("24h", "slurm"), ("1 day", "slurm"), ("1-00:00:00", "pbs"), ("1d", "pbs")),
        *(("24:00", "sge"), ("86400", None), ("24:00", None)),
    ],
)
def test_other_forms_are_no_times(text, system):
    with pytest.raises(ValueError, match="a time is HH:MM:SS"):
        seconds_of(text, system and BatchSystem(system))


@pytest.mark.parametrize("values", [["batch", "gpu=a100"], ["gpu=a100", "batch"]])
def test_value_for_one_category_takes_precedence_in_either_order(values):
    profiles = profiles_of({"queue": values})
    queues = {category: profile.queue for category, profile in profiles.items()}
    assert queues == dict.fromkeys(Category, "batch") | {Category.GPU: "a100"}


def test_cpu_workers_use_one_core_each_and_a_calculation_uses_a_whole_node():
    profiles = profiles_of({"cores": ["48"]})
    assert profiles[Category.CPU].tasks == 48
    assert profiles[Category.CPU].threads == profiles[Category.CPU].ranks == 1
    assert profiles[Category.DFT].tasks == 1
    assert profiles[Category.DFT].ranks == 48
    assert profiles[Category.DFT].threads == 1
    assert profiles[Category.GPU].threads == 48


def test_several_calculations_share_the_cores_of_a_node():
    dft = profiles_of({"cores": ["64"], "tasks": ["dft=4"]})[Category.DFT]
    assert (dft.tasks, dft.ranks, dft.processes_per_node) == (4, 16, 64)


def test_workers_of_a_node_divide_its_cores():
    options = {"cores": ["64"], "tasks": ["gpu=1", "cpu=64", "dft=4"], "nodes": ["hse=2"]}
    profiles = profiles_of(options)
    assert [profiles[category].cores_per_worker for category in Category] == [64, 1, 16, 64]


def test_calculations_have_one_rank_per_core_or_gpu():
    options = {"cores": ["64"], "nodes": ["dft=2"], "gpus": ["hse=4"]}
    profiles = profiles_of(options)
    assert (profiles[Category.DFT].ranks, profiles[Category.DFT].processes_per_node) == (128, 64)
    hse = profiles[Category.HSE]
    assert (hse.ranks, hse.threads, hse.processes_per_node) == (4, 16, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": ["cuda=a100"]}, r"--queue cuda=a100: the categories are gpu, cpu, dft, hse"),
        ({"cores": ["dft=many"]}, r"--cores dft=many: .*integer"),
        ({"cores": ["dft=0"]}, r"--cores dft=0: .*greater"),
        ({"walltime": ["cpu=2h"]}, r"--walltime cpu=2h: a time is HH:MM:SS"),
        ({"queue": ["a; rm -rf ~"]}, r"--queue gpu=a; rm -rf ~: string should match"),
        ({"walltime": ["dft=01:00:00"]}, r"category dft: .*margin of 12:00:00"),
        ({"tasks": ["dft=32"]}, r"category dft: 32 tasks cannot share 16 cores"),
        ({"nodes": ["dft=2"], "tasks": ["dft=2"]}, r"category dft: several tasks share one node"),
        ({"gpus": ["gpu=2"], "tasks": ["gpu=2"]}, r"category gpu: .* the first GPU"),
    ],
)
def test_errors_name_option_and_category(options, message):
    with pytest.raises(UserError, match=message):
        profiles_of(options)
