"""Reference phases of campaigns by the source in campaign.yaml."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import ReferenceSettings
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.reference_sources.campaign_phases import (
    WAYS,
    phases_in_system,
    phases_of,
)
from gan_htvs.thermodynamics.references import ReferencePhase, reference_phases
from tests.gan_htvs.thermodynamics.reference_sources.test_own_files import CALCIUM, LIME
from tests.helpers import rocksalt, write_fetched_phases

O2_ENERGY = -4.94795546875

PHASES = {"Ca fcc": CALCIUM, "CaO lime": LIME}


@pytest.fixture
def campaign(tmp_path):
    """Return a function that writes and reads a campaign of Ca-O."""

    def read(references=None, elements=("Ca", "O")):
        document = {
            "name": "lime",
            "chemical_system": {"caps": dict.fromkeys(elements, 2)},
            "oxidation_states": {e: [-2, -2] if e == "O" else [2, 2] for e in elements},
        }
        if references is not None:
            document["references"] = references
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(document))
        return read_campaign(tmp_path / "campaign.yaml")

    return read


@pytest.fixture
def phases_file(tmp_path):
    path = tmp_path / "phases.json"
    path.write_text(json.dumps({name: phase.as_dict() for name, phase in PHASES.items()}))
    return path


def names(campaign):
    return [phase.name for phase in phases_of(campaign)]


class TestAuto:
    def test_shipped_phases(self, campaign):
        assert phases_of(campaign(elements=("Mg", "O"))) == reference_phases(["Mg", "O"])

    def test_kept_file(self, campaign, tmp_path):
        phases = [ReferencePhase(name, phase, "a test") for name, phase in PHASES.items()]
        write_fetched_phases(tmp_path / "references.json", phases, ["Ca", "O"])
        settings = campaign().references
        assert (settings.source, settings.path) == ("file", tmp_path / "references.json")
        assert settings.sha256 is not None
        assert names(campaign()) == ["O2", "Ca fcc", "CaO lime"]

    def test_shipped_phases_go_before_the_kept_file(self, campaign, tmp_path):
        write_fetched_phases(tmp_path / "references.json", [], ["Mg", "O"])
        assert campaign(elements=("Mg", "O")).references.source == "auto"

    def test_error_lists_the_other_sources(self, campaign):
        unresolved = campaign()  # a training needs no reference phases
        with pytest.raises(UserError) as error:
            phases_of(unresolved)
        for source in ("optimade", "materials_project", "folder", "file"):
            assert f"references: {{source: {source}" in str(error.value)

    def test_every_listed_way_is_a_valid_section(self):
        sections = re.findall(r"`(references: {[^`]*})`", WAYS)
        assert len(sections) == 4
        for section in sections:
            assert ReferenceSettings.model_validate(yaml.safe_load(section)["references"])


class TestOwnPhases:
    def test_file(self, campaign, phases_file):
        lime = campaign({"source": "file", "path": "phases.json"})
        phases = phases_of(lime)
        assert [phase.name for phase in phases] == ["O2", "Ca fcc", "CaO lime"]
        assert [phase.energy_per_atom for phase in phases] == [O2_ENERGY, None, None]

    def test_fix_for_a_file_that_was_not_fetched_is_valid(self, campaign, phases_file):
        phases = [{"name": name, "structure": phase.as_dict()} for name, phase in PHASES.items()]
        phases_file.write_text(json.dumps({"kept_for": "Ca-O", "phases": phases}))
        with pytest.raises(UserError, match=r"phases\.json: was not fetched") as error:
            phases_of(campaign({"source": "materials_project", "path": "phases.json"}))
        (section,) = re.findall(r"`(references: {[^`]*})`", str(error.value))
        fixed = yaml.safe_load(section)["references"]
        assert names(campaign(fixed)) == ["O2", "Ca fcc", "CaO lime"]

    def test_folder(self, campaign, tmp_path):
        for name, phase in PHASES.items():
            (tmp_path / "phases").mkdir(exist_ok=True)
            phase.to(str(tmp_path / "phases" / f"{name}.cif"))
        settings = {"source": "folder", "path": "phases"}
        assert names(campaign(settings)) == ["O2", "Ca fcc", "CaO lime"]

    def test_phases_of_other_systems_are_left_out(self, campaign, phases_file):
        phases_file.write_text(
            json.dumps(
                {"CsCl": rocksalt("Cs", 7, "Cl").as_dict()}
                | {name: phase.as_dict() for name, phase in PHASES.items()}
            )
        )
        assert "CsCl" not in names(campaign({"source": "file", "path": "phases.json"}))

    def test_gases_of_a_file_are_replaced(self, campaign, phases_file):
        molecule = Structure(Lattice.cubic(6), ["O", "O"], [[0, 0, 0], [0, 0, 0.2]])
        document = json.loads(phases_file.read_text()) | {"a molecule": molecule.as_dict()}
        phases_file.write_text(json.dumps(document))
        lime = campaign({"source": "file", "path": "phases.json"})
        assert names(lime) == ["O2", "Ca fcc", "CaO lime"]

    def test_element_without_phase_is_a_user_error(self, campaign, phases_file):
        lime = campaign({"source": "file", "path": "phases.json"}, ("Ca", "Mg", "O"))
        with pytest.raises(UserError, match=r"phases\.json: .* Mg,") as error:
            phases_of(lime)
        assert "max_energy_above_hull" not in str(error.value)  # the file has no energies

    def test_element_whose_phases_are_above_the_bound_is_a_user_error(self, campaign, phases_file):
        phases_file.write_text(
            json.dumps(
                {
                    name: {"structure": phase.as_dict(), "energy_above_hull": energy}
                    for (name, phase), energy in zip(PHASES.items(), (0.06, 0.0), strict=True)
                }
            )
        )
        settings = {"source": "file", "path": "phases.json"}
        with pytest.raises(UserError, match=r"Ca, .*max_energy_above_hull \(0\.05 eV/atom\)"):
            phases_of(campaign(settings))
        assert "Ca fcc" in names(campaign(settings | {"max_energy_above_hull": 0.07}))

    def test_bound_does_not_apply_to_a_folder(self, campaign, tmp_path):
        (tmp_path / "phases").mkdir()
        LIME.to(str(tmp_path / "phases" / "a.cif"))
        with pytest.raises(UserError, match="no elemental phase of Ca") as error:
            phases_of(campaign({"source": "folder", "path": "phases"}))
        assert "max_energy_above_hull" not in str(error.value)

    def test_changed_file_is_a_user_error(self, campaign, phases_file):
        lime = campaign({"source": "file", "path": "phases.json"})
        phases_file.write_text(phases_file.read_text() + "\n")
        with pytest.raises(UserError, match=r"phases\.json: has the hash"):
            phases_of(lime)

    def test_changed_folder_is_a_user_error(self, campaign, tmp_path):
        (tmp_path / "phases").mkdir()
        CALCIUM.to(str(tmp_path / "phases" / "a.cif"))
        lime = campaign({"source": "folder", "path": "phases"})
        LIME.to(str(tmp_path / "phases" / "b.cif"))
        with pytest.raises(UserError, match="phases: has the hash"):
            phases_of(lime)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"source": "file"}, "'path' is required for source 'file'"),
        ({"source": "folder"}, "'path' is required for source 'folder'"),
        ({"path": "phases.json"}, "'path' is invalid for source 'auto'"),
        ({"source": "literature", "path": "phases.json"}, "'path' is invalid"),
        ({"source": "file", "path": "phases.json"}, "phases.json does not exist"),
        ({"source": "folder", "path": "phases"}, "phases does not exist"),
        ({"source": "optimade", "provider": "materialsproject"}, "references.provider"),
        ({"source": "file", "path": "a.json", "energies": "materials_project"}, "energies"),
    ],
)
def test_wrong_settings_are_a_user_error(campaign, references, message):
    with pytest.raises(UserError, match=message):
        campaign(references)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("file", "is a folder; name a file"),
        ("optimade", "is a folder; name a file"),
        ("folder", "is a file; name a folder"),
    ],
)
def test_path_of_the_wrong_kind_is_a_user_error(campaign, tmp_path, source, message):
    path = tmp_path / "phases"
    path.write_text("{}") if source == "folder" else path.mkdir()
    with pytest.raises(UserError, match=message) as error:
        campaign({"source": source, "path": "phases"})
    assert str(path) in str(error.value)


def test_missing_element_of_a_reference_solid_is_named_with_the_solid():
    def metal(symbol):
        return Structure(Lattice.cubic(3), [symbol], [[0, 0, 0]])

    structures = [metal("K"), metal("Mn"), rocksalt("Na", 4.6, "F"), rocksalt("Na", 5.6, "Cl")]
    phases = [ReferencePhase(str(s.formula), s, "a test") for s in structures]
    elements, solids = ("K", "Mn", "F"), ("K2O", "MnO2", "NaF", "Na")
    with pytest.raises(UserError, match=r"^here: has NaF, .* no elemental phase of Na, "):
        phases_in_system(phases, elements, "here", solids)
    with pytest.raises(UserError, match=r"^here: has no elemental phase of Mn, Na, "):
        phases_in_system([p for p in phases if p.formula != "Mn"], elements, "here", solids)
    sodium = ReferencePhase("Na bcc", metal("Na"), "a test")
    kept = phases_in_system([*phases, sodium], elements, "here", solids)
    assert {phase.formula for phase in kept} == {"K", "Mn", "Na", "NaF", "F2"}
