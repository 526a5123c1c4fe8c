"""What is rehearsed, and what the real campaign is said to cost."""

from __future__ import annotations

import pytest

from flows.campaign import CampaignUnits
from flows.references import known_phases
from gan_htvs.campaign import Campaign
from gan_htvs.errors import UserError
from gan_htvs.prescreen.settings import PrescreenSettings
from gan_htvs.rehearsal.cost import RunCost
from launchers.database import open_databases
from launchers.rehearsal import estimate_costs, print_costs, rehearsal_of

CAMPAIGN = Campaign.model_validate(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 2, "O": 2}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "compositions": ["MgO", "Mg2O2"],
        "sampling": {"proposers": ["substitution", "random"], "structures_per_composition": 50},
        "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}},
        "prescreen": None,
    }
)


class TestCampaign:
    def test_is_smaller_and_otherwise_the_same(self):
        rehearsal = rehearsal_of(CAMPAIGN, 2, ["MgO"], ["killed=0.25", "hang=0.5"])
        assert rehearsal.compositions == ("MgO",)
        assert rehearsal.sampling.structures_per_composition == 2
        assert rehearsal.engines.vasp.failures == {"killed": 0.25, "hang": 0.5}
        assert rehearsal.engines.vasp.content == CAMPAIGN.engines.vasp.content

    def test_sends_every_structure_to_vasp(self):
        sifting = CAMPAIGN.model_copy(update={"prescreen": PrescreenSettings()})
        assert rehearsal_of(sifting, 2, [], []).prescreen is None

    @pytest.mark.parametrize(
        ("failures", "message"),
        [
            (["bogus=1"], "--fail bogus=1: write MODE=SHARE"),
            (["killed"], "--fail killed: write MODE=SHARE"),
            (["killed=2"], "a share lies between 0 and 1"),
            (["killed=0.8", "hang=0.8"], "add up to more than 1"),
        ],
    )
    def test_shares_are_checked(self, failures, message):
        with pytest.raises(UserError, match=message):
            rehearsal_of(CAMPAIGN, 2, [], failures)

    def test_compositions_are_checked(self):
        with pytest.raises(UserError, match="NaCl"):
            rehearsal_of(CAMPAIGN, 2, ["NaCl"], [])


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        yield databases


REHEARSAL = rehearsal_of(CAMPAIGN, 2, [], [])


def leave(databases, *calculations, units=100, **fields):
    """Leave what rehearsed calculations leave: (owner, candidate, label)."""
    cost = RunCost(
        formula="MgO",
        potential="chgnet",
        is_hybrid=False,
        n_atoms=2,
        n_electrons=14,
        n_kpoints=10,
        n_bands=10,
        n_spins=1,
        n_plane_waves=100,
        n_ionic_steps=1,
        n_electronic_steps=1,
        units=units,
        fock_units=0,
    ).model_copy(update=fields)
    documents = [
        {
            "uuid": f"{owner} {candidate} {label}",
            "metadata": {"campaign": owner, "candidate_id": candidate},
            "output": {"task_label": label, "additional_json": {"rehearsal": cost.model_dump()}},
        }
        for owner, candidate, label in calculations
    ]
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update(documents)


def expected(databases, campaign=CAMPAIGN):
    return {s.name: s.n_expected for s in estimate_costs(databases, REHEARSAL, campaign)}


def test_each_structure_costs_what_a_rehearsed_one_did(databases):
    name, references = REHEARSAL.name, CampaignUnits(REHEARSAL).references
    phase = known_phases(REHEARSAL)[0].candidate_id
    leave(
        databases,
        (name, "a", "FM relax 1"),
        (name, "a", "AFM relax 1"),
        (name, "b", "NM relax 1"),
        (name, "b", "hybrid"),
        (name, phase, "hybrid"),
        # Shared phases bear the candidate id that another campaign gave them.
        (references, "of another campaign", "NM relax 1"),
        ("another campaign", "c", "NM relax 1"),
    )
    # 2 compositions x 2 proposers x 50 structures, of which 2 were rehearsed
    assert expected(databases) == {
        "relax 1": 300,
        "hybrid": 100,
        "known phases, hybrid": 1,
        "known phases, relax 1": 1,
    }


def test_what_was_rehearsed_before_does_not_count_twice(databases):
    leave(databases, (REHEARSAL.name, "a", "NM relax 1"))
    once = expected(databases)
    leave(databases, (REHEARSAL.name, "b", "NM relax 1"))
    assert expected(databases) == once == {"relax 1": 200}


def test_published_phases_cost_nothing(databases):
    references = CampaignUnits(REHEARSAL).references
    leave(databases, (references, "a", "NM relax 1"), (REHEARSAL.name, "a", "NM relax 1"))
    published = CAMPAIGN.references.model_copy(update={"energies": "materials_project"})
    campaign = CAMPAIGN.model_copy(update={"references": published})
    assert expected(databases, campaign) == {"relax 1": 200}


def test_only_survivors_of_a_prescreen_come_to_vasp(databases):
    leave(databases, (REHEARSAL.name, "a", "NM relax 1"))
    sifting = CAMPAIGN.model_copy(update={"prescreen": PrescreenSettings()})
    assert expected(databases, sifting) == {"relax 1": pytest.approx(200 * 1121 / 9300)}


def test_hybrids_have_a_price_of_their_own(databases, capsys):
    leave(databases, (REHEARSAL.name, "a", "NM relax 1"), units=3600)
    leave(databases, (REHEARSAL.name, "a", "hybrid"), is_hybrid=True, fock_units=36_000)
    steps = estimate_costs(databases, REHEARSAL, CAMPAIGN)
    print_costs(steps, 1.0, None)
    told = capsys.readouterr().out.splitlines()
    hours = {line.split()[0]: line.split()[-1] for line in told if line.strip()}
    assert (hours["relax"], hours["hybrid"], hours["all"]) == ("200.0", "-", "-")
    print_costs(steps, 1.0, 2.0)
    told = capsys.readouterr().out.splitlines()
    hours = {line.split()[0]: line.split()[-1] for line in told if line.strip()}
    assert (hours["relax"], hours["hybrid"], hours["all"]) == ("200.0", "4,000.0", "4,200.0")


def test_nothing_rehearsed_is_told(databases, capsys):
    print_costs(estimate_costs(databases, REHEARSAL, CAMPAIGN), None, None)
    assert "no cost to tell" in "".join(capsys.readouterr())
