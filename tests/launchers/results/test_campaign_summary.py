from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from jobflow import Flow
from maggma.stores import MemoryStore

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.candidate import PrescreenVerdict
from gan_htvs.core.stages import CALCULATIONS, ScreeningStep, Step
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import submit
from launchers.launchpad.units import Unit
from launchers.results import campaign_summary as summary
from tests.jobs import add, labeled

CAMPAIGN = SimpleNamespace(name="mixed")
MG_O = Campaign(
    name="mg-o",
    chemical_system={"caps": {"Mg": 2, "O": 2}},
    oxidation_states={"Mg": (2, 2), "O": (-2, -2)},
    prescreen={"window": 0.1, "confirm": "none"},
)


def sample(uuid: str, *, stream: str = "", **output) -> dict:
    """Make the stored output of one sampling job."""
    counted = {"requested": 2, "tried": 2, "rejections": {}, "exhausted": False}
    found = [{"candidate_id": str(i)} for i in range(output.pop("found", 2))]
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mixed", "step": "propose"},
        "output": counted
        | {"stream": stream or uuid, "composition": "MgMn2O4", "proposals": found}
        | output,
    }


@pytest.fixture
def told(capsys):
    def tell(*samples: dict) -> list[str]:
        store = MemoryStore(key="uuid")
        store.connect()
        store.update(list(samples), key="uuid")
        store.close = lambda: None  # a store in memory forgets everything when it is closed
        databases = SimpleNamespace(store=lambda name, key: store)
        summary._print_sampling(CAMPAIGN, databases)
        printed = capsys.readouterr()
        return printed.out.splitlines() + printed.err.splitlines()

    return tell


def test_one_proposer_is_not_named(told):
    rejections = {"duplicate": 1, "wrong_composition": 4}
    (line,) = told(sample("a", proposer="gan", tried=7, rejections=rejections))
    assert line == (
        "Sampling: 7 raw samples, rejected before any physics: wrong composition (4), duplicate (1)"
    )


def test_several_proposers_are_counted_apart(told):
    lines = told(
        sample("a", proposer="gan", tried=7, rejections={"duplicate": 5}),
        sample("b", proposer="random"),
        sample("c", proposer="random", tried=3, rejections={"atoms_too_close": 1}),
    )
    assert lines == [
        "Sampling by gan: 7 raw samples, rejected before any physics: duplicate (5)",
        "Sampling by random: 5 raw samples, rejected before any physics: atoms too close (1)",
    ]


def test_a_lengthened_sample_counts_once(told):
    short = sample("a", proposer="random", stream="s", tried=2)
    longer = sample("b", proposer="random", stream="s", tried=4, requested=4, found=4)
    assert told(longer, short) == [
        "Sampling: 4 raw samples, rejected before any physics: none",
    ]


@pytest.mark.parametrize(
    ("proposer", "exhausted", "advice"),
    [
        ("gan", False, "train longer or raise sampling.max_tries_per_structure"),
        ("random", False, "by random; raise sampling.max_tries_per_structure"),
        ("substitution", True, "substitution has no more"),
    ],
)
def test_who_gave_up_is_told_what_helps(told, proposer, exhausted, advice):
    lines = told(sample("a", proposer=proposer, exhausted=exhausted, found=1))
    assert lines[1].startswith("note MgMn2O4: 1 of 2 structures after 2 samples")
    assert lines[1].endswith(f"{advice}.")


def test_what_stopping_early_lost_is_told_with_its_interval(capsys):
    stopped = [
        PrescreenVerdict(
            candidate_id="a", rejected_at=ScreeningStep.STOPPING, n_steps=10, cpu_seconds=2
        )
    ]
    audited = [
        PrescreenVerdict(
            candidate_id="b", rejected_at=rejected_at, is_audited=True, would_stop_at=10
        )
        for rejected_at in (None, ScreeningStep.WINDOW, ScreeningStep.WINDOW, ScreeningStep.WINDOW)
    ]
    summary.print_prescreen(MG_O, stopped * 100 + audited)
    told = " ".join(capsys.readouterr().out.split())
    assert "Prescreen of mg-o (chgnet)" in told
    assert "early stopping 100 1,000 200 2.00" in told
    assert "all 104 1,000 200 1.92" in told
    assert "Of 4 audited ones that it would have ended, 1 came within 0.1 eV/atom" in told
    assert "25 % (95 % interval 5 to 70 %): it lost about 25 (5 to 70)." in told


@pytest.mark.parametrize("step", [*CALCULATIONS, Step.GATE])
def test_a_calculation_that_was_lost_is_a_result_and_a_gate_is_not(launchpad_file, step):
    lost = labeled(add(1, 2), step, "mg-o", candidate_id="a")
    with open_databases(launchpad_file) as databases:
        launchpad = databases.launchpad()
        launchpad.initialize()
        submit(launchpad, [Unit(lost.uuid, Flow([lost]))], MG_O)
        launchpad.fireworks.update_one({}, {"$set": {"state": "FIZZLED"}})
        with databases.store("campaigns", key="name") as campaigns:
            campaigns.update([{"name": "mg-o", "settings": MG_O.model_dump(mode="json")}])
        failed = summary.print_summary(MG_O, databases, Path("my_launchpad.yaml"))
    assert failed is (step is Step.GATE)


def test_without_a_prescreen_nothing_is_told_of_one(capsys):
    summary.print_prescreen(SimpleNamespace(name="old", prescreen=None), [])
    assert capsys.readouterr().out == ""
