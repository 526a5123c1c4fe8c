from __future__ import annotations

import pytest
from monty.json import jsanitize
from typer.testing import CliRunner

from gan_htvs.campaign_file import checked_campaign
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from launchers.cli import app
from launchers.database import open_databases

CAMPAIGN = checked_campaign(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 4, "O": 4}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    },
    "test",
)
REFERENCES = ReferenceSet(
    entries=tuple(
        ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory="CHGNet-0.3.0")
        for f, e in {"Mg": 0.0, "O2": 0.0, "MgO": -3.06}.items()
    )
)
STABLE = {
    "candidate_id": "a",
    "campaign": "mg-o",
    "formula_pretty": "MgO",
    "origin": {"proposer": "gan"},
    "stage": "photoanode",
    "energy_above_hull": 0.02,
    "formation_energy_per_atom": -3.04,
    "band_gap": 2.0,
    "band_gap_method": "HSE06",
    "novelty": {"is_novel": True},
    "pourbaix": {
        "minimum": 0.1,
        "ph": [0.0, 7.0, 14.0],
        "decomposition_energies": [0.8, 0.4, 0.1],
        "settings": {"potential_vs_rhe": 1.5, "ion_concentration": 1e-6},
    },
    "gate": {"references": "references"},
}


@pytest.fixture
def funnel(launchpad_file):
    def put(*names):
        with open_databases(launchpad_file) as databases:
            with databases.store("campaigns", key="name") as store:
                settings = CAMPAIGN.model_dump(mode="json")
                store.update([{"name": name, "settings": settings} for name in names])
            with databases.store("candidates", key="candidate_id") as store:
                store.update([STABLE])
            with databases.store("outputs", key="uuid") as store:
                output = jsanitize(REFERENCES, strict=True)
                store.update([{"uuid": "references", "output": output}])

    def call(*arguments):
        return CliRunner().invoke(app, ["funnel", *arguments, "-l", str(launchpad_file)])

    call.put = put
    return call


def test_the_only_campaign_needs_no_name_and_its_figures_are_drawn(funnel, tmp_path):
    funnel.put("mg-o")
    result = funnel("--output", str(tmp_path / "figures"))
    assert result.exit_code == 0, result.output
    assert "published" in result.output
    assert "9,300" not in result.output  # of Mg-Mn-O, not of Mg-O
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["funnel.png", "gaps.png", "hull.png", "pourbaix.png"]


def test_a_campaign_that_is_not_there_is_told_with_those_that_are(funnel):
    funnel.put("mg-o", "another")
    for arguments in ([], ["nobody"]):
        result = funnel(*arguments)
        assert result.exit_code == 2
        assert "another, mg-o" in result.output
