from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from jobflow import run_locally
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry, ConstantEnergyAdjustment

from flows.campaign import CampaignFlows
from flows.references import reference_survivors
from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics import mp_phases as materials_project
from gan_htvs.thermodynamics.mp_phases import fetch_phases
from gan_htvs.thermodynamics.references import phases_of

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.thermodynamics.references import ReferencePhase

ELEMENTS = ["Mg", "O"]
O2_ENERGY = -4.94795546875


def entry(material_id: str, structure: Structure, energy_per_atom: float) -> ComputedStructureEntry:
    """Make an entry as the client does: raw energy, correction, ids of entry and material."""
    correction = -0.687 * structure.composition["O"]
    return ComputedStructureEntry(
        structure,
        energy_per_atom * len(structure) - correction,
        energy_adjustments=[ConstantEnergyAdjustment(correction, name="MP2020")],
        data={"material_id": material_id, "run_type": "GGA"},
        entry_id=f"{material_id}-GGA",
    )


def crystal(group: str, a: float, *sites: tuple) -> Structure:
    species, coords = zip(*sites, strict=True)
    return Structure.from_spacegroup(group, Lattice.cubic(a), species, coords)


ROCKSALT = crystal("Fm-3m", 4.21, ("Mg", (0, 0, 0)), ("O", (0.5, 0.5, 0.5)))
CSCL = crystal("Pm-3m", 2.65, ("Mg", (0, 0, 0)), ("O", (0.5, 0.5, 0.5)))
PYRITE = crystal("Pa-3", 4.84, ("Mg", (0, 0, 0)), ("O", (0.411, 0.411, 0.411)))
BCC = crystal("Im-3m", 3.57, ("Mg", (0, 0, 0)))
FCC = crystal("Fm-3m", 4.52, ("Mg", (0, 0, 0)))
OXYGEN = Structure(Lattice.cubic(6), ["O", "O"], [[0, 0, 0], [0, 0, 0.2]])

ENTRIES = [
    entry("mp-1265", ROCKSALT, -6.3275),
    entry("mp-1009129", CSCL, -5.6),
    entry("mp-2589", PYRITE, -5.88),
    entry("mp-110", BCC, -1.58),
    entry("mp-153", FCC, -1.6),
    entry("mp-12957", OXYGEN, O2_ENERGY),
    entry("mp-610917", OXYGEN, -4.93),
]


def fetch(symbols: list[str]) -> list[ComputedStructureEntry]:
    assert symbols == ELEMENTS
    return ENTRIES


class TestPhases:
    @pytest.mark.parametrize(
        ("bound", "names"),
        [
            (0, ["O2", "Mg mp-153", "MgO mp-1265", "MgO2 mp-2589"]),
            (0.05, ["O2", "Mg mp-110", "Mg mp-153", "MgO mp-1265", "MgO2 mp-2589"]),
        ],
    )
    def test_are_those_near_the_hull(self, bound: float, names: list[str]):
        assert [phase.name for phase in fetch_phases(ELEMENTS, bound, fetch=fetch)] == names

    def test_are_primitive_cells_with_their_source(self):
        phases = {phase.name: phase for phase in fetch_phases(ELEMENTS, 0.05, fetch=fetch)}
        magnesia = phases["MgO mp-1265"]
        assert len(magnesia.structure) == 2
        assert magnesia.source == "Materials Project mp-1265"
        assert magnesia.pinned_energy_per_atom is None

    def test_have_the_corrected_energies(self):
        phases = fetch_phases(ELEMENTS, 0, fetch=fetch)
        assert {phase.formula: phase.energy_per_atom for phase in phases} == pytest.approx(
            {"Mg": -1.6, "MgO": -6.3275, "MgO2": -5.88, "O2": O2_ENERGY}
        )

    def test_oxygen_is_the_pinned_one(self):
        pinned = [p for p in fetch_phases(ELEMENTS, 1, fetch=fetch) if p.pinned_energy_per_atom]
        assert [(p.formula, p.pinned_energy_per_atom) for p in pinned] == [("O2", O2_ENERGY)]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "of Mg-O it has no elemental Mg, O, without"),
        ([e for e in ENTRIES if e.reduced_formula != "Mg"], "of Mg-O it has no elemental Mg, with"),
    ],
)
def test_what_is_missing_is_told_in_one_sentence(entries, message: str):
    with pytest.raises(UserError, match=message):
        fetch_phases(ELEMENTS, 0.05, fetch=lambda _: entries)


def test_the_client_is_asked_for_corrected_gga_energies(monkeypatch):
    asked = {}

    class Rester:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def get_entries_in_chemsys(self, elements, **query):
            asked.update(query, elements=elements)
            return ENTRIES

    monkeypatch.setattr(materials_project, "client", lambda _: Rester())
    assert fetch_phases(("O", "Mg"), 0)
    assert asked == {
        "elements": ELEMENTS,
        "compatible_only": True,
        "additional_criteria": {"thermo_types": ["GGA_GGA+U"]},
    }


def relaxed_phases(campaign: Campaign) -> list[ReferencePhase]:
    """List the reference phases whose energies are computed."""
    return [phase for phase in phases_of(campaign) if phase.pinned_energy_per_atom is None]


def references_of(campaign: Campaign) -> str:
    """Return the uuid of the job that collects the reference phases."""
    return CampaignFlows(campaign).shared["references"].output.uuid


class TestCampaign:
    """A campaign whose reference phases are those of the Materials Project."""

    @pytest.fixture
    def fetched(self, monkeypatch) -> list[list[str]]:
        """Requests, instead of the network."""
        requests = []

        def request(symbols):
            requests.append(symbols)
            return ENTRIES

        monkeypatch.setattr(materials_project, "_request", request)
        return requests

    @pytest.fixture
    def document(self) -> dict:
        return {
            "name": "magnesia",
            "chemical_system": {"caps": {"Mg": 2, "O": 2}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "references": {"source": "materials_project", "path": "phases.json"},
        }

    @pytest.fixture
    def campaign_file(self, tmp_path: Path, fetched, document) -> Path:
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def test_fetches_once_and_keeps_what_it_got(self, campaign_file: Path, fetched):
        first, second = (read_campaign(campaign_file) for _ in range(2))
        assert fetched == [ELEMENTS]
        assert first == second
        assert first.references.path == campaign_file.parent / "phases.json"
        assert [phase.source for phase in relaxed_phases(first)] == [
            f"Materials Project mp-{number}" for number in (110, 153, 1265, 2589)
        ]

    def test_what_was_kept_is_what_was_fetched(self, campaign_file: Path):
        kept = relaxed_phases(read_campaign(campaign_file))
        fresh = fetch_phases(ELEMENTS, 0.05, fetch=fetch)
        assert [phase.structure for phase in kept] == [phase.structure for phase in fresh[1:]]

    def test_other_phases_are_other_references(self, campaign_file: Path, monkeypatch):
        before = read_campaign(campaign_file)
        uuid = references_of(before)
        (campaign_file.parent / "phases.json").rename(campaign_file.parent / "old.json")
        fewer = [e for e in ENTRIES if e.data["material_id"] != "mp-2589"]
        monkeypatch.setattr(materials_project, "_request", lambda _: fewer)
        after = read_campaign(campaign_file)
        assert references_of(after) != uuid
        # which is a setting of the campaign, so that none goes on with another hull
        assert after.references.sha256 != before.references.sha256

    def test_a_changed_file_is_refused(self, campaign_file: Path):
        campaign = read_campaign(campaign_file)
        path = campaign_file.parent / "phases.json"
        path.write_text(path.read_text() + "\n")
        with pytest.raises(UserError, match=r"phases.json: has the hash .* restore it"):
            phases_of(campaign)

    def test_a_file_for_other_settings_is_refused(self, campaign_file: Path):
        read_campaign(campaign_file)
        text = campaign_file.read_text()
        campaign_file.write_text(text.replace("path:", "max_energy_above_hull: 0.1\n  path:"))
        with pytest.raises(UserError, match=r"was fetched for Mg-O within 0\.05 eV/atom"):
            phases_of(read_campaign(campaign_file))

    def test_a_damaged_file_is_named_with_the_cure(self, campaign_file: Path):
        (campaign_file.parent / "phases.json").write_text("{}")
        with pytest.raises(UserError, match=r"phases.json: holds no reference phases; delete it"):
            phases_of(read_campaign(campaign_file))

    @pytest.mark.parametrize("value", ["NaN", "Infinity"])
    def test_an_energy_that_is_not_finite_is_refused(self, campaign_file: Path, value: str):
        read_campaign(campaign_file)
        path = campaign_file.parent / "phases.json"
        document = json.loads(path.read_text())
        document["phases"][0]["pinned_energy_per_atom"] = float(value)
        path.write_text(json.dumps(document))
        with pytest.raises(UserError, match=r"phases.json: holds no reference phases"):
            phases_of(read_campaign(campaign_file))

    def test_without_a_path_it_is_refused(self, campaign_file: Path):
        text = campaign_file.read_text()
        campaign_file.write_text(text.replace("path: phases.json", "sha256: null"))
        with pytest.raises(UserError, match="references: 'path' belongs to source 'materials_pro"):
            read_campaign(campaign_file)

    def test_vasp_may_take_the_energies_of_the_materials_project(self, campaign_file, document):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": "vasp"}}
        campaign_file.write_text(yaml.safe_dump(document))
        campaign = read_campaign(campaign_file)
        assert relaxed_phases(campaign) == []
        flow = CampaignFlows(campaign).shared["references"]
        ((assembly, _),) = flow.iterflow()
        references = run_locally(flow, log=False)[assembly.uuid][1].output
        assert references.level_of_theory == "PBE(+U)+MP2020"
        energies = {"Mg mp-110": -1.58, "Mg mp-153": -1.6, "MgO mp-1265": -6.3275}
        energies |= {"MgO2 mp-2589": -5.88}
        assert {e.name: e.energy_per_atom for e in references.entries} == pytest.approx(
            energies | {"O2": O2_ENERGY}
        )
        formation = references.formation_energy_per_atom("MgO", -6.3275)
        assert formation == pytest.approx(-3.0535, abs=1e-3)
        survivors = reference_survivors(campaign, {}, references.level_of_theory)
        assert {
            each.proposal.origin.label: each.relaxed.energy_per_atom for each in survivors
        } == pytest.approx(energies)

    def test_no_potential_takes_the_energies_of_the_materials_project(
        self, campaign_file, document
    ):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": "vasp"}, "vasp": {"pre_relaxation": "chgnet"}}
        campaign_file.write_text(yaml.safe_dump(document))
        campaign = read_campaign(campaign_file)
        pinned = [phase.pinned_energy_per_atom for phase in phases_of(campaign, by_potential=True)]
        assert pinned == [pytest.approx(O2_ENERGY), None, None, None, None]

    def test_their_energies_are_part_of_the_name_of_the_reference_set(
        self, campaign_file, document, monkeypatch
    ):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": "vasp"}}
        campaign_file.write_text(yaml.safe_dump(document))
        before = references_of(read_campaign(campaign_file))
        (campaign_file.parent / "phases.json").unlink()
        moved = [entry("mp-1265", ROCKSALT, -6.3), *ENTRIES[1:]]
        monkeypatch.setattr(materials_project, "_request", lambda _: moved)
        assert references_of(read_campaign(campaign_file)) != before

    @pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
    def test_no_other_engine_may(self, campaign_file, document, name):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": name}, "band_gap": {"name": "none"}}
        campaign_file.write_text(yaml.safe_dump(document))
        with pytest.raises(UserError, match=f"needs engines.energy.name 'vasp', not '{name}'"):
            read_campaign(campaign_file)
