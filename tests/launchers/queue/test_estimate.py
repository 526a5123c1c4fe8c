"""Cost estimates from the settings of a campaign and from earlier jobs."""

from __future__ import annotations

import pytest
from fireworks import Firework, FWorker, PyTask, Workflow
from fireworks.core.rocket_launcher import rapidfire
from fireworks.utilities.fw_serializers import SAVED_FW_MODULES

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.stages import ProposerName, Step
from launchers.cli.plan_tables import print_estimate
from launchers.launchpad.database import open_databases
from launchers.queue.estimate import MEASURED, estimate

SETTINGS = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "sampling": {"proposers": ["random"], "structures_per_composition": 30, "batch_size": 20},
}
"""Two compositions with two batches each; sixty structures."""

N_REFERENCES = 3
"""Mg, MgO and MgO2; the energy of O2 is not computed."""


def campaign(energy="chgnet", gap="gpaw", prescreen=None):
    engines = {"energy": {"name": energy}, "band_gap": {"name": gap}}
    return Campaign.model_validate(SETTINGS | {"engines": engines, "prescreen": prescreen})


@pytest.fixture
def databases(launchpad_file, monkeypatch):
    monkeypatch.setitem(SAVED_FW_MODULES, "PyTask", PyTask.__module__)
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        yield databases


def register(databases, name, campaign, **submission):
    document = {"name": name, "settings": campaign.model_dump(mode="json")}
    with databases.store("campaigns", key="name") as campaigns:
        campaigns.update([document | {"submission": submission}])


def store_candidates(databases, candidates):
    common = {"campaign": "mg-o", "origin": {"proposer": "random"}, "stage": "rejected"}
    with databases.store("candidates", key="candidate_id") as store:
        store.update(
            [common | {"candidate_id": str(n)} | other for n, other in enumerate(candidates)]
        )


def rows(databases, campaign):
    return {(row.step, row.category): row for row in estimate(campaign, databases)}


def test_jobs_are_counted_from_the_flows_with_documented_wall_times(databases):
    estimates = rows(databases, campaign())
    relax, gate = estimates[Step.RELAX, "cpu"], estimates[Step.GATE, "cpu"]
    assert relax.n_jobs == 60
    assert gate.n_jobs == 60 + N_REFERENCES
    assert estimates[Step.PROPOSE, "cpu"].n_jobs == estimates[Step.SELECT, "cpu"].n_jobs == 2
    assert estimates[Step.REFERENCES, "cpu"].n_jobs == 2  # one relaxes, one collects
    # References, two compositions, and two workflows of at most fifty candidates.
    assert estimates[Step.RELEASE, "cpu"].n_jobs == 1 + 2 + 2
    assert relax.seconds == MEASURED[Step.RELAX, "chgnet"]
    assert relax.hours == pytest.approx(relax.n_jobs * relax.seconds / 3600)
    gaps = estimates[Step.BAND_GAP, "hse"]
    assert gaps.n_jobs == pytest.approx(60 * 148 / 9300 + N_REFERENCES)
    assert "148 of 9,300" in gaps.n_source


def test_wall_times_of_earlier_jobs_with_the_same_engine_are_used(databases, tmp_path):
    register(databases, "earlier", campaign(), owners=["earlier"])
    launchpad = databases.launchpad()
    spec = {"campaign": "earlier", "step": "relax", "_category": "cpu"}
    launchpad.add_wf(Workflow([Firework(PyTask(func="operator.add", args=[1, 2]), spec=spec)]))
    rapidfire(launchpad, FWorker(), m_dir=str(tmp_path), nlaunches=1, strm_lvl="CRITICAL")
    relax = rows(databases, campaign())[Step.RELAX, "cpu"]
    assert relax.seconds == launchpad.launches.find_one()["runtime_secs"]
    assert relax.source == "mean of 1 job here"
    other = rows(databases, campaign(energy="sevennet-0"))[Step.RELAX, "cpu"]
    assert (other.seconds, other.source) == (None, "not measured yet")


def test_campaign_without_prescreen_gives_no_wall_times_of_batches(databases):
    register(databases, "plain", campaign(), owners=["plain"])
    batches = rows(databases, campaign(prescreen={}))[Step.PRESCREEN, "cpu"]
    assert batches.source == "docs/status.md"


def test_share_of_band_gaps_comes_from_enough_stored_candidates(databases):
    register(databases, "mg-o", campaign())
    store_candidates(databases, [{"stage": "pourbaix_metastable"}] * 10 + [{}] * 40)
    estimates = rows(databases, campaign())
    assert estimates[Step.BAND_GAP, "hse"].n_jobs == pytest.approx(60 * 10 / 50 + N_REFERENCES)


def test_vasp_jobs_are_counted_without_a_wall_time(databases, capsys):
    estimates = rows(databases, campaign("vasp", "vasp"))
    static = estimates[Step.STATIC, "dft"]
    assert static.n_jobs == 60 + N_REFERENCES  # MgO has a single magnetic ordering
    assert estimates[Step.ENERGY, "cpu"].n_jobs == static.n_jobs
    assert estimates[Step.RELAX, "dft"].n_jobs == 2 * static.n_jobs
    assert static.hours is None
    print_estimate(list(estimates.values()), cores_per_node=48)
    assert "excluding relax, static" in "".join(capsys.readouterr())


def test_each_batch_is_one_job_and_only_survivors_are_evaluated(databases):
    without, estimates = rows(databases, campaign()), rows(databases, campaign(prescreen={}))
    prescreen = estimates[Step.PRESCREEN, "cpu"]
    assert prescreen.n_jobs == 4
    listed = campaign(prescreen={})
    sampling = listed.sampling.model_copy(update={"proposers": (ProposerName.SUBSTITUTION,)})
    listed = listed.model_copy(update={"sampling": sampling})
    assert rows(databases, listed)[Step.PRESCREEN, "cpu"].n_jobs == 4
    assert prescreen.seconds == pytest.approx(60 / 4 * (2.6 + 0.5))
    assert prescreen.source == "docs/status.md"
    # The prescreen has relaxed the survivors with the potential of the candidates.
    assert (Step.RELAX, "cpu") not in estimates
    assert estimates[Step.GATE, "cpu"].n_jobs == pytest.approx(N_REFERENCES + 60 * 1121 / 9300)
    # The confirming potential, SevenNet, has separate reference energies.
    assert estimates[Step.REFERENCES, "cpu"].n_jobs == 2 * without[Step.REFERENCES, "cpu"].n_jobs
    assert estimates[Step.RELEASE, "cpu"].n_jobs == 2 + 2 + 1


def test_share_of_survivors_comes_from_enough_stored_candidates(databases):
    vasp = campaign("vasp", "none", prescreen={"confirm": "none"})
    register(databases, "mg-o", vasp)
    records = [{"rejected_at": None}] * 12 + [{"rejected_at": "hull window"}] * 48 + [None]
    store_candidates(databases, [{"prescreen": record} for record in records])
    static = rows(databases, vasp)[Step.STATIC, "dft"]
    assert static.n_jobs == pytest.approx(N_REFERENCES + 60 * 12 / 60)
    assert static.n_source == "survivors: 12 of 60 in this database"


def test_prescreen_with_an_unmeasured_potential_has_no_wall_time(databases):
    estimates = rows(
        databases, campaign(prescreen={"potential": "sevennet-0", "confirm": "chgnet"})
    )
    assert estimates[Step.PRESCREEN, "cpu"].seconds is None
    assert estimates[Step.RELAX, "cpu"].n_jobs > 5  # survivors, with CHGNet
