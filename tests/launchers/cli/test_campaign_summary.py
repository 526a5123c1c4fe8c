from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from jobflow import Flow
from maggma.stores import MemoryStore

from gan_htvs.core.candidate import PrescreenVerdict
from gan_htvs.core.stages import CALCULATIONS, ScreeningStep, Step
from launchers.cli import campaign_summary as summary
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import submit
from launchers.launchpad.units import Unit
from tests.helpers import mg_o
from tests.jobs import add, labeled

CAMPAIGN = SimpleNamespace(name="mixed")
MG_O = mg_o(prescreen={"window": 0.1, "confirm": "none"})


def sample(uuid: str, *, stream: str = "", **output) -> dict:
    """Return the stored output of one sampling job."""
    counts = {"requested": 2, "tried": 2, "rejections": {}, "exhausted": False}
    proposals = [{"candidate_id": str(i)} for i in range(output.pop("n_proposals", 2))]
    return {
        "uuid": uuid,
        "metadata": {"campaign": "mixed", "step": "propose"},
        "output": counts
        | {"stream": stream or uuid, "composition": "MgMn2O4", "proposals": proposals}
        | output,
    }


@pytest.fixture
def printed(capsys):
    def summarize(*samples: dict) -> list[str]:
        store = MemoryStore(key="uuid")
        store.connect()
        store.update(list(samples), key="uuid")
        store.close = lambda: None  # closing a MemoryStore deletes its contents
        databases = SimpleNamespace(store=lambda name, key: store)
        summary.print_sampling(CAMPAIGN, databases)
        captured = capsys.readouterr()
        return captured.out.splitlines() + captured.err.splitlines()

    return summarize


def test_single_proposer_is_not_named(printed):
    rejections = {"duplicate": 1, "wrong_composition": 4}
    (line,) = printed(sample("a", proposer="gan", tried=7, rejections=rejections))
    assert line == (
        "Sampling: 7 raw samples, rejected before relaxation: wrong composition (4), duplicate (1)"
    )


def test_samples_are_counted_by_proposer(printed):
    lines = printed(
        sample("a", proposer="gan", tried=7, rejections={"duplicate": 5}),
        sample("b", proposer="random"),
        sample("c", proposer="random", tried=3, rejections={"atoms_too_close": 1}),
    )
    assert lines == [
        "Sampling by gan: 7 raw samples, rejected before relaxation: duplicate (5)",
        "Sampling by random: 5 raw samples, rejected before relaxation: atoms too close (1)",
    ]


def test_lengthened_sample_counts_once(printed):
    short = sample("a", proposer="random", stream="s", tried=2)
    longer = sample("b", proposer="random", stream="s", tried=4, requested=4, n_proposals=4)
    assert printed(longer, short) == [
        "Sampling: 4 raw samples, rejected before relaxation: none",
    ]


@pytest.mark.parametrize(
    ("proposer", "exhausted", "advice"),
    [
        ("gan", False, "train longer or raise sampling.max_tries_per_structure"),
        ("random", False, "by random; raise sampling.max_tries_per_structure"),
        ("substitution", True, "substitution is exhausted"),
    ],
)
def test_advice_for_too_few_structures(printed, proposer, exhausted, advice):
    lines = printed(sample("a", proposer=proposer, exhausted=exhausted, n_proposals=1))
    assert lines[1].startswith("note MgMn2O4: 1 of 2 structures after 2 samples")
    assert lines[1].endswith(f"{advice}.")


def test_estimated_loss_by_early_stopping_has_an_interval(capsys):
    stopped = [PrescreenVerdict(rejected_at=ScreeningStep.STOPPING, n_steps=10, cpu_seconds=2)]
    audited = [
        PrescreenVerdict(rejected_at=rejected_at, is_audited=True, would_stop_at=10)
        for rejected_at in (None, ScreeningStep.WINDOW, ScreeningStep.WINDOW, ScreeningStep.WINDOW)
    ]
    summary.print_prescreen(MG_O, stopped * 100 + audited)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Prescreen of mg-o (chgnet)" in printed
    assert "early stopping 100 1,000 200 2.00" in printed
    assert "all 104 1,000 200 1.92" in printed
    assert "Of 4 audited relaxations that it would have ended, 1 came within 0.1 eV/atom" in printed
    assert "25 % (95 % interval 5 to 70 %). Estimated loss: 25 structures (5 to 70)." in printed


@pytest.mark.parametrize("step", [*CALCULATIONS, Step.GATE])
def test_failed_gate_fails_the_campaign_but_failed_calculation_does_not(launchpad_file, step):
    job = labeled(add(1, 2), step, "mg-o", candidate_id="a")
    with open_databases(launchpad_file) as databases:
        launchpad = databases.launchpad()
        launchpad.initialize()
        submit(launchpad, [Unit(job.uuid, Flow([job]))], MG_O)
        launchpad.fireworks.update_one({}, {"$set": {"state": "FIZZLED"}})
        with databases.store("campaigns", key="name") as campaigns:
            campaigns.update([{"name": "mg-o", "settings": MG_O.model_dump(mode="json")}])
        failed = summary.print_summary(MG_O, databases, Path("my_launchpad.yaml"))
    assert failed is (step is Step.GATE)


def test_no_prescreen_prints_nothing(capsys):
    summary.print_prescreen(SimpleNamespace(name="old", prescreen=None), [])
    assert capsys.readouterr().out == ""
