"""The campaign of a rehearsal and its database."""

from __future__ import annotations

import pytest
import yaml

from gan_htvs.campaign.compositions import CompositionSettings
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.prescreen.prescreen_settings import PrescreenSettings
from launchers.launchpad.launchpad_file import LaunchpadFile
from launchers.rehearsal.small_campaign import own_launchpad, potcars_of, rehearsal_of

SETTINGS = {
    "name": "mg-mn-o",
    "chemical_system": {"caps": {"Mg": 4, "Mn": 4, "O": 8}},
    "oxidation_states": {"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
    "compositions": ["MgMn2O4", "Mg2MnO4"],
    "sampling": {"proposers": ["substitution", "random"], "structures_per_composition": 50},
    "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}},
    "prescreen": None,
}


def campaign(**changes):
    return Campaign.model_validate(SETTINGS | changes)


class TestCampaign:
    def test_is_smaller_with_the_same_settings(self):
        vasp = {"max_afm": 2, "incar": {"NCORE": 4}}
        real = campaign(engines=SETTINGS["engines"] | {"vasp": vasp})
        one_cell = CompositionSettings(formula="MgMn2O4", atoms_per_cell=7)
        rehearsal = rehearsal_of(real, 2, [one_cell])
        assert (rehearsal.name, rehearsal.compositions) == ("mg-mn-o", (one_cell,))
        assert rehearsal.sampling.structures_per_composition == 2
        assert rehearsal.sampling.proposers == real.sampling.proposers
        intervals = {"polling_seconds", "frozen_seconds"}
        assert rehearsal.engines.vasp.model_dump(exclude=intervals) == real.engines.vasp.model_dump(
            exclude=intervals
        )
        assert rehearsal.engines.vasp.frozen_seconds == 120
        assert rehearsal_of(real, 2, []).compositions == real.compositions

    def test_has_no_prescreen(self):
        screening = campaign().model_copy(update={"prescreen": PrescreenSettings()})
        assert rehearsal_of(screening, 2, []).prescreen is None

    def test_trains_no_generator(self):
        sampling = {"proposers": ["gan", "substitution"]}
        untrained = rehearsal_of(campaign(sampling=sampling), 1, [])
        assert untrained.sampling.proposers == ("random", "substitution")
        shipped = campaign(sampling=sampling, generator={"checkpoint": "shipped"})
        assert rehearsal_of(shipped, 1, []).sampling.proposers == ("gan", "substitution")

    def test_omits_band_gaps_of_another_code(self):
        engines = {"energy": {"name": "vasp"}, "band_gap": {"name": "gpaw"}}
        assert rehearsal_of(campaign(engines=engines), 1, []).engines.band_gap.name == "none"
        assert rehearsal_of(campaign(), 1, []).engines.band_gap.name == "vasp"

    def test_computes_published_references(self):
        published = {
            "source": "materials_project",
            "path": "phases.json",
            "energies": "materials_project",
        }
        rehearsal = rehearsal_of(campaign(references=published), 1, [])
        assert rehearsal.references.energies == "computed"
        assert rehearsal.references.source == "materials_project"

    def test_requires_vasp(self):
        with pytest.raises(UserError, match=r"engines\.energy\.name: 'chgnet'"):
            rehearsal_of(campaign(engines={"energy": {"name": "chgnet"}}), 1, [])

    def test_checks_compositions(self):
        with pytest.raises(UserError, match="NaCl"):
            rehearsal_of(campaign(), 2, [CompositionSettings(formula="NaCl")])


def test_potcars_agree_with_the_materials_project():
    assert potcars_of(campaign()) == (["Mg_pv", "Mn_pv", "O"], "PBE")
    engines = SETTINGS["engines"] | {"vasp": {"potcar_functional": "PBE_54"}}
    assert potcars_of(campaign(engines=engines)) == (["Mg_pv", "Mn_pv", "O"], "PBE_54")


class TestDatabase:
    def test_is_embedded_in_the_folder_of_the_rehearsal(self, tmp_path):
        settings = LaunchpadFile.read(own_launchpad(tmp_path / "mg-mn-o"))
        assert settings.is_local
        assert settings.embedded_storage == tmp_path / "mg-mn-o" / "database"

    def test_existing_file_is_kept(self, tmp_path):
        path = own_launchpad(tmp_path)
        settings = yaml.safe_load(path.read_text()) | {"port": 28160}
        path.write_text(yaml.safe_dump(settings))
        assert LaunchpadFile.read(own_launchpad(tmp_path)).port == 28160
