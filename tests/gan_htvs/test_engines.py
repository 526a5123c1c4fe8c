from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.campaign import Campaign
from gan_htvs.engines import (
    MATERIALS_PROJECT_U,
    EnergyEngineSettings,
    EngineSettings,
    FailureName,
    VaspSettings,
)
from gan_htvs.errors import UserError
from gan_htvs.identity import content_hash, content_uuid
from gan_htvs.rehearsal.failures import FailureMode

MG_O = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}


def campaign(**engines) -> Campaign:
    return Campaign.model_validate(MG_O | {"engines": engines})


def test_u_of_oxides_is_that_of_the_materials_project():
    assert MPRelaxSet.CONFIG["INCAR"]["LDAUU"]["O"] == MATERIALS_PROJECT_U
    assert MaterialsProject2020Compatibility().u_settings["O"] == MATERIALS_PROJECT_U


class TestPotential:
    def test_names_of_atomate2_are_taken(self):
        settings = EngineSettings(energy={"name": "vasp"}, vasp={"pre_relaxation": "MatterSim"})
        assert settings.potential.name == "MatterSim"
        assert campaign(energy={"name": "MACE-MP-0"}).engines.potential.name == "MACE-MP-0"

    def test_a_wrong_name_is_answered_with_all_there_are(self):
        with pytest.raises(ValidationError, match=r"known are chgnet.*vasp, rehearsal, .*DeepMD"):
            EnergyEngineSettings(name="MACE-MP-1")
        with pytest.raises(ValidationError, match=r"known are chgnet, .*DeepMD"):
            VaspSettings(pre_relaxation="vasp")

    @pytest.mark.parametrize("name", ["chgnet", "sevennet-0", "sevennet-l3i5"])
    def test_a_name_that_has_a_model_takes_no_arguments(self, name):
        with pytest.raises(ValidationError, match=f"'{name}' takes none"):
            EnergyEngineSettings(name=name, arguments={"model": "mine"})
        with pytest.raises(ValidationError, match=f"pre_relaxation is '{name}'"):
            EngineSettings(
                energy={"name": "vasp", "arguments": {"model": "mine"}},
                vasp={"pre_relaxation": name},
            )

    def test_arguments_without_a_potential_are_refused(self):
        with pytest.raises(ValidationError, match="pre_relaxation is None"):
            EngineSettings(energy={"name": "vasp", "arguments": {"model": "mine"}})

    def test_arguments_are_those_of_the_pre_relaxation(self):
        arguments = {"model": "/x/y.model"}
        settings = EngineSettings(
            energy={"name": "vasp", "arguments": arguments}, vasp={"pre_relaxation": "MACE-MP-0"}
        )
        assert settings.potential == EnergyEngineSettings(name="MACE-MP-0", arguments=arguments)
        assert EngineSettings.model_validate(settings.model_dump()) == settings

    def test_jobs_have_the_names_that_they_had_before_there_were_arguments(self):
        vasp = EngineSettings(energy={"name": "vasp"}, vasp={"pre_relaxation": "chgnet"})
        assert (
            content_uuid("relax", EnergyEngineSettings()) == "5be2a0da-7b57-5024-bc2c-65bf05df2a7c"
        )
        assert content_hash(vasp) == "0b6cf2081a2df69aeecab4ca546c2977"

    def test_arguments_are_part_of_the_names_of_jobs(self):
        models = [{}, {"model": "/x/a"}, {"model": "/x/b"}]
        settings = [EnergyEngineSettings(name="MACE-MP-0", arguments=each) for each in models]
        assert len(set(map(content_uuid, settings))) == 3


class TestVasp:
    @pytest.mark.parametrize("tag", ["LDAUU", "ldauu", "METAGGA", "MAGMOM", "ISPIN", "LHFCALC"])
    def test_tags_that_make_another_level_of_theory_are_refused(self, tag):
        with pytest.raises(ValidationError, match=f"{tag.upper()} would make another level"):
            VaspSettings(incar={tag: 1})

    def test_a_hybrid_stays_one(self):
        with pytest.raises(ValidationError, match="LHFCALC would make another level"):
            VaspSettings(hybrid={"incar": {"LHFCALC": False}})

    def test_what_decides_no_result_is_not_part_of_the_content(self):
        same = VaspSettings(
            max_afm=3, max_errors=9, max_seconds=3600, frozen_seconds=60, incar={"NCORE": 4}
        )
        assert same.content == VaspSettings().content
        assert VaspSettings(incar={"EDIFF": 1e-6}).content != VaspSettings().content

    def test_a_class_filter_is_refused(self):
        with pytest.raises(ValidationError, match="use name_filter"):
            VaspSettings(powerups=[{"name": "use_auto_ispin", "arguments": {"class_filter": "X"}}])

    def test_a_potential_comes_first_or_does_everything(self):
        settings = EngineSettings(energy={"name": "vasp", "fmax": 0.05})
        with pytest.raises(UserError, match=r"engines\.vasp\.pre_relaxation"):
            _ = settings.potential
        settings = EngineSettings(
            energy={"name": "vasp", "fmax": 0.05}, vasp={"pre_relaxation": "sevennet-0"}
        )
        assert (settings.potential.name, settings.potential.fmax) == ("sevennet-0", 0.05)
        chgnet = EngineSettings()
        assert chgnet.potential == chgnet.energy


class TestRehearsal:
    @pytest.mark.parametrize(
        ("energy", "band_gap"),
        [
            ("rehearsal", "gpaw"),
            ("rehearsal", "vasp"),
            ("chgnet", "rehearsal"),
            ("vasp", "rehearsal"),
        ],
    )
    def test_nothing_computed_stands_beside_it(self, energy, band_gap):
        with pytest.raises(ValidationError, match="a rehearsal gives no results"):
            EngineSettings(energy={"name": energy}, band_gap={"name": band_gap})

    @pytest.mark.parametrize("band_gap", ["rehearsal", "none"])
    def test_is_whole(self, band_gap):
        engines = EngineSettings(energy={"name": "rehearsal"}, band_gap={"name": band_gap})
        assert engines.is_rehearsal

    def test_failures_are_for_rehearsals(self):
        with pytest.raises(ValidationError, match="real ones come by themselves"):
            EngineSettings(energy={"name": "vasp"}, vasp={"failures": {"killed": 0.1}})

    def test_ways_to_fail_are_those_of_the_stand_in(self):
        assert set(get_args(FailureName)) == set(FailureMode)

    def test_of_a_campaign_has_its_flows_and_another_name(self):
        real = campaign(energy={"name": "vasp"}, band_gap={"name": "vasp"}, vasp={"max_afm": 2})
        rehearsal = real.rehearsal
        assert rehearsal.name == "mg-o-rehearsal"
        assert rehearsal.engines.is_rehearsal
        assert rehearsal.engines.band_gap.name == "rehearsal"
        assert rehearsal.engines.vasp == real.engines.vasp
        assert Campaign.model_validate(rehearsal.model_dump()) == rehearsal
        assert rehearsal.rehearsal == rehearsal

    def test_gaps_of_another_code_are_left_out(self):
        rehearsal = campaign(energy={"name": "vasp"}, band_gap={"name": "gpaw"}).rehearsal
        assert rehearsal.engines.band_gap.name == "none"

    def test_needs_something_to_rehearse(self):
        with pytest.raises(UserError, match="what there is to rehearse"):
            _ = campaign().rehearsal

    def test_a_long_name_stays_a_name(self):
        document = MG_O | {"name": "x" * 64, "engines": {"energy": {"name": "vasp"}}}
        rehearsal = Campaign.model_validate(document).rehearsal
        assert Campaign.model_validate(rehearsal.model_dump()).name.endswith("x-rehearsal")
