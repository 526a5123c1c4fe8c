from __future__ import annotations

import pytest
from pydantic import ValidationError
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.campaign.engines import (
    MATERIALS_PROJECT_U,
    EnergyEngineSettings,
    EngineSettings,
    VaspSettings,
)
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_uuid
from gan_htvs.potentials.relaxation_settings import PotentialSettings

MG_O = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}


def campaign(**engines) -> Campaign:
    return Campaign.model_validate(MG_O | {"engines": engines})


def test_hubbard_u_is_that_of_the_materials_project():
    assert MPRelaxSet.CONFIG["INCAR"]["LDAUU"]["O"] == MATERIALS_PROJECT_U
    assert MaterialsProject2020Compatibility().u_settings["O"] == MATERIALS_PROJECT_U


class TestPotential:
    def test_names_of_atomate2_are_valid(self):
        settings = EngineSettings(energy={"name": "vasp"}, vasp={"pre_relaxation": "MatterSim"})
        assert settings.potential.name == "MatterSim"
        assert campaign(energy={"name": "MACE-MP-0"}).engines.potential.name == "MACE-MP-0"

    def test_unknown_name_is_an_error_with_the_valid_names(self):
        with pytest.raises(ValidationError, match=r"chgnet.*vasp, .*DeepMD"):
            EnergyEngineSettings(name="MACE-MP-1")
        with pytest.raises(ValidationError, match=r"chgnet, .*DeepMD"):
            VaspSettings(pre_relaxation="vasp")

    @pytest.mark.parametrize("name", ["chgnet", "sevennet-0", "sevennet-l3i5"])
    def test_arguments_of_shipped_potentials_are_refused(self, name):
        with pytest.raises(ValidationError, match=f"'{name}'"):
            EnergyEngineSettings(name=name, arguments={"model": "mine"})
        with pytest.raises(ValidationError, match=f"pre_relaxation.*'{name}'"):
            EngineSettings(
                energy={"name": "vasp", "arguments": {"model": "mine"}},
                vasp={"pre_relaxation": name},
            )

    def test_arguments_without_a_potential_are_refused(self):
        with pytest.raises(ValidationError, match=r"pre_relaxation.*None"):
            EngineSettings(energy={"name": "vasp", "arguments": {"model": "mine"}})

    def test_arguments_belong_to_the_pre_relaxation(self):
        arguments = {"model": "/x/y.model"}
        settings = EngineSettings(
            energy={"name": "vasp", "arguments": arguments}, vasp={"pre_relaxation": "MACE-MP-0"}
        )
        assert settings.potential == PotentialSettings(name="MACE-MP-0", arguments=arguments)
        assert EngineSettings.model_validate(settings.model_dump()) == settings

    def test_empty_arguments_do_not_change_job_uuids(self):
        assert "arguments" not in PotentialSettings().model_dump()
        assert content_uuid(PotentialSettings()) == content_uuid(PotentialSettings(arguments={}))

    def test_arguments_change_job_uuids(self):
        models = [{}, {"model": "/x/a"}, {"model": "/x/b"}]
        settings = [
            EnergyEngineSettings(name="MACE-MP-0", arguments=arguments) for arguments in models
        ]
        assert len(set(map(content_uuid, settings))) == 3


class TestVasp:
    @pytest.mark.parametrize("tag", ["LDAUU", "ldauu", "METAGGA", "MAGMOM", "ISPIN", "LHFCALC"])
    def test_tags_that_change_the_level_of_theory_are_refused(self, tag):
        with pytest.raises(ValidationError, match=tag.upper()):
            VaspSettings(incar={tag: 1})

    def test_hybrid_cannot_be_switched_off(self):
        with pytest.raises(ValidationError, match="LHFCALC"):
            VaspSettings(hybrid={"incar": {"LHFCALC": False}})

    def test_class_filter_is_refused(self):
        with pytest.raises(ValidationError, match="class_filter"):
            VaspSettings(powerups=[{"name": "use_auto_ispin", "arguments": {"class_filter": "X"}}])

    def test_potential_is_the_pre_relaxation_or_the_energy_engine(self):
        settings = EngineSettings(energy={"name": "vasp", "fmax": 0.05})
        with pytest.raises(UserError, match=r"engines\.vasp\.pre_relaxation"):
            _ = settings.potential
        settings = EngineSettings(
            energy={"name": "vasp", "fmax": 0.05}, vasp={"pre_relaxation": "sevennet-0"}
        )
        assert (settings.potential.name, settings.potential.fmax) == ("sevennet-0", 0.05)
        chgnet = EngineSettings()
        assert chgnet.potential == PotentialSettings(**chgnet.energy.model_dump())


@pytest.mark.parametrize(
    "engines",
    [
        {"energy": {"name": "rehearsal"}},
        {"band_gap": {"name": "rehearsal"}},
        {"vasp": {"failures": {"killed": 0.1}}},
    ],
)
def test_rehearsal_settings_are_refused(engines):
    with pytest.raises(ValidationError, match=r"rehearsal|failures"):
        EngineSettings.model_validate(engines)
