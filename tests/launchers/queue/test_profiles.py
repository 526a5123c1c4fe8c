from __future__ import annotations

import pytest

from gan_htvs.campaign.routing import Category
from gan_htvs.core.errors import UserError
from launchers.queue.profiles import clock_of, profiles_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:10:00", 600), ("48:00:00", 172_800), ("2-00:00:00", 172_800), ("1-12:30:05", 131_405)],
)
def test_times_are_read_as_batch_systems_write_them(text, seconds):
    assert seconds_of(text) == seconds
    assert seconds_of(clock_of(seconds)) == seconds


def test_what_is_said_of_one_category_outdoes_what_is_said_of_all_in_either_order():
    for values in (["batch", "gpu=a100"], ["gpu=a100", "batch"]):
        queues = {each: profile.queue for each, profile in profiles_of({"queue": values}).items()}
        assert queues == dict.fromkeys(Category, "batch") | {Category.GPU: "a100"}


def test_potentials_are_packed_on_all_cores_and_a_calculation_has_a_node_to_itself():
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


def test_a_whole_node_is_spread_over_and_a_packed_one_is_not():
    wanted = {"cores": ["64"], "tasks": ["gpu=1", "cpu=64", "dft=4"], "nodes": ["hse=2"]}
    profiles = profiles_of(wanted)
    assert [profiles[category].cores_each for category in Category] == [64, 1, 16, 64]


def test_a_calculation_on_several_nodes_and_one_with_a_rank_on_each_gpu():
    wanted = {"cores": ["64"], "nodes": ["dft=2"], "gpus": ["hse=4"]}
    profiles = profiles_of(wanted)
    assert (profiles[Category.DFT].ranks, profiles[Category.DFT].processes_per_node) == (128, 64)
    hse = profiles[Category.HSE]
    assert (hse.ranks, hse.threads, hse.processes_per_node) == (4, 16, 4)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"queue": ["cuda=a100"]}, r"--queue cuda=a100: the categories are gpu, cpu, dft, hse"),
        ({"cores": ["dft=many"]}, r"--cores dft=many: .*integer"),
        ({"cores": ["dft=0"]}, r"--cores dft=0: .*greater"),
        ({"walltime": ["cpu=2h"]}, r"--walltime cpu=2h: a time is HH:MM:SS"),
        ({"queue": ["a; rm -rf ~"]}, r"--queue gpu=a; rm -rf ~: string should match"),
        ({"walltime": ["dft=01:00:00"]}, r"category dft: with a margin of 12:00:00"),
        ({"tasks": ["dft=32"]}, r"category dft: 32 tasks cannot share 16 cores"),
        ({"nodes": ["dft=2"], "tasks": ["dft=2"]}, r"category dft: several tasks share one node"),
        ({"gpus": ["gpu=2"], "tasks": ["gpu=2"]}, r"category gpu: .* the first GPU"),
    ],
)
def test_what_is_wrong_is_named_by_option_and_category(wanted, message):
    with pytest.raises(UserError, match=message):
        profiles_of(wanted)
