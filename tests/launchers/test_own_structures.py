"""Campaigns that evaluate structures of the user without sampling and prescreen."""

from __future__ import annotations

import shutil

import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from flows.proposals import own_proposals
from gan_htvs.campaign.campaign_file import campaign_for_structures, read_campaign
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.launchpad.units import CampaignUnits
from tests.helpers import rocksalt
from tests.jobs import store_references


@pytest.fixture
def folder(tmp_path):
    """A folder with two structures and an invalid file."""
    folder = tmp_path / "own"
    folder.mkdir()
    rocksalt().to(filename=str(folder / "magnesia.cif"))
    (rocksalt(length=4.4) * (1, 1, 2)).to(filename=str(folder / "POSCAR_long"), fmt="poscar")
    (folder / "notes.cif").write_text("no structure")
    return folder


def test_campaign_for_a_folder_samples_nothing(folder):
    campaign = campaign_for_structures(folder, "mine", "none")
    assert campaign.chemical_system.caps == {"Mg": 2, "O": 2}
    assert campaign.target_counts == ()
    assert campaign.n_structures == 2
    (sentence,) = campaign.structures.source_notes
    assert "notes.cif" in sentence
    assert "magnesia" not in sentence
    proposals = {proposal.origin.label: proposal for proposal in own_proposals(campaign)}
    assert set(proposals) == {"magnesia.cif", "POSCAR_long"}
    assert proposals["magnesia.cif"].origin.proposer == "user"
    assert proposals["magnesia.cif"].structure.volume == pytest.approx(rocksalt().volume)
    assert len(proposals["POSCAR_long"].structure) == 4


def test_copies_of_a_structure_are_one_candidate(folder):
    shutil.copy(folder / "magnesia.cif", folder / "copy.cif")
    campaign = campaign_for_structures(folder, "mine", "none")
    assert campaign.n_structures == 2
    assert len({proposal.candidate_id for proposal in own_proposals(campaign)}) == 2


def test_own_structures_are_evaluated_with_the_reference_phases(folder, launchpad_file):
    campaign = campaign_for_structures(folder, "mine", "none")
    units = CampaignUnits(campaign)
    assert units.compositions == {}
    assert "training" not in units.flows.shared
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        store_references(databases, units, ("Mg hcp", "MgO periclase"))
        ((_, ids),) = units.chunks(databases)
    assert {proposal.candidate_id for proposal in own_proposals(campaign)} < set(ids)


class TestOwnReferences:
    """Structures and reference phases of a system that the package does not cover."""

    @pytest.fixture
    def lime(self, tmp_path):
        folder = tmp_path / "own"
        folder.mkdir()
        rocksalt("Ca", 4.9).to(filename=str(folder / "lime.cif"))
        return folder

    @pytest.fixture
    def phases(self, tmp_path):
        folder = tmp_path / "phases"
        folder.mkdir()
        calcium = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.588), ["Ca"], [[0, 0, 0]])
        calcium.to(filename=str(folder / "Ca.cif"))
        rocksalt("Ca", 4.81).to(filename=str(folder / "CaO.cif"))
        return folder

    def test_system_without_phases_is_a_user_error(self, lime):
        with pytest.raises(UserError, match=r"lime\.cif: .* Ca, .*--references"):
            campaign_for_structures(lime, "mine", "none")

    def test_folder_of_phases(self, lime, phases):
        campaign = campaign_for_structures(lime, "mine", "none", phases)
        assert [phase.name for phase in phases_of(campaign)] == ["O2", "Ca", "CaO"]

    @pytest.mark.parametrize("name", ["nowhere.json", "phases/CaO.cif"])
    def test_file_without_phases_is_a_user_error(self, lime, phases, tmp_path, name):
        with pytest.raises(UserError, match=name):
            campaign_for_structures(lime, "mine", "none", tmp_path / name)

    def test_missing_element_is_a_user_error(self, lime, phases):
        (phases / "Ca.cif").unlink()
        with pytest.raises(UserError, match="elemental phase of Ca"):
            campaign_for_structures(lime, "mine", "none", phases)


def test_campaign_file_can_include_a_folder(folder, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(
        "name: both\n"
        "chemical_system: {caps: {Mg: 2, O: 2}}\n"
        "oxidation_states: {Mg: [2, 2], O: [-2, -2]}\n"
        "sampling: {proposers: [random], structures_per_composition: 3}\n"
        "structures: {path: own}\n"
    )
    campaign = read_campaign(path)
    assert campaign.structures.path == folder
    assert campaign.structures.count == 2
    assert campaign.n_structures == 2 * 3 + 2
    assert Campaign.model_validate(campaign.model_dump(mode="json")) == campaign


def test_element_outside_the_system_is_a_user_error(folder):
    campaign = campaign_for_structures(folder, "mine", "none")
    rocksalt("Mn", 4.5).to(filename=str(folder / "manganosite.cif"))
    with pytest.raises(UserError, match=r"manganosite\.cif has Mn, outside Mg-O"):
        own_proposals(campaign)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no structure file"),
        (
            lambda folder: (folder / "a.cif").write_text("nothing"),
            "no structure that can be computed",
        ),
        (
            lambda folder: rocksalt("Xe", 5.0).to(filename=str(folder / "a.cif")),
            "own/a.cif: no reference phases are known for Xe",
        ),
    ],
)
def test_unusable_folder_is_a_user_error(tmp_path, prepare, message):
    folder = tmp_path / "own"
    folder.mkdir()
    prepare(folder)
    arguments = ["evaluate-structures", str(folder), "--launchpad", str(tmp_path / "pad.yaml")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    sentence = result.stderr.replace("\n", " ")
    assert message in " ".join(sentence.split())
