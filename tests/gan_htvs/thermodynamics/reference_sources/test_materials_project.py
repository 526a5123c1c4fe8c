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
from gan_htvs.thermodynamics.reference_sources import materials_project
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from gan_htvs.thermodynamics.reference_sources.materials_project import fetch_materials_project

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.thermodynamics.references import ReferencePhase

ELEMENTS = ["Mg", "O"]
O2_ENERGY = -4.94795546875


def entry(material_id: str, structure: Structure, energy_per_atom: float) -> ComputedStructureEntry:
    """Build an entry of the client: raw energy, correction, ids of entry and material."""
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


class Rester:
    """Client of the Materials Project that records queries and returns fixed entries."""

    def __init__(self, entries: list[ComputedStructureEntry]) -> None:
        self.entries, self.queries = entries, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def get_entries_in_chemsys(self, elements, **query):
        self.queries.append({"elements": elements} | query)
        return self.entries


@pytest.fixture
def use_entries(monkeypatch):
    """Return a function that replaces the client by one with fixed entries."""

    def use(entries: list[ComputedStructureEntry]) -> Rester:
        rester = Rester(entries)
        monkeypatch.setattr(materials_project, "open_client", lambda _: rester)
        return rester

    return use


class TestPhases:
    @pytest.fixture(autouse=True)
    def client(self, use_entries):
        use_entries(ENTRIES)

    @pytest.mark.parametrize(
        ("bound", "names"),
        [
            (0, ["Mg mp-153", "MgO mp-1265", "MgO2 mp-2589", "O2 mp-12957"]),
            (
                0.05,
                [
                    *("Mg mp-110", "Mg mp-153", "MgO mp-1265", "MgO2 mp-2589"),
                    *("O2 mp-12957", "O2 mp-610917"),
                ],
            ),
        ],
    )
    def test_phases_near_the_hull(self, bound: float, names: list[str]):
        assert [phase.name for phase in fetch_materials_project(ELEMENTS, bound).phases] == names

    def test_primitive_cells_and_sources(self):
        phases = {phase.name: phase for phase in fetch_materials_project(ELEMENTS, 0.05).phases}
        magnesia = phases["MgO mp-1265"]
        assert len(magnesia.structure) == 2
        assert magnesia.source == "Materials Project mp-1265"
        assert magnesia.pinned_energy_per_atom is None

    def test_corrected_energies(self):
        phases = fetch_materials_project(ELEMENTS, 0).phases
        assert {phase.formula: phase.energy_per_atom for phase in phases} == pytest.approx(
            {"Mg": -1.6, "MgO": -6.3275, "MgO2": -5.88, "O2": O2_ENERGY}
        )

    def test_provenance(self):
        provenance = fetch_materials_project(ELEMENTS, 0).provenance
        assert provenance.elements == ("Mg", "O")
        assert provenance.n_entries == len(ENTRIES)
        assert sum(provenance.skipped.values()) == 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "Mg-O .* Mg, O,"),
        ([e for e in ENTRIES if e.reduced_formula != "Mg"], "Mg-O .* Mg,"),
    ],
)
def test_missing_element_is_a_user_error(use_entries, entries, message: str):
    use_entries(entries)
    with pytest.raises(UserError, match=message):
        fetch_materials_project(ELEMENTS, 0.05)


def test_query_requests_corrected_gga_energies(use_entries):
    rester = use_entries(ENTRIES)
    assert fetch_materials_project(("O", "Mg"), 0).phases
    assert rester.queries == [
        {
            "elements": ELEMENTS,
            "compatible_only": True,
            "additional_criteria": {"thermo_types": ["GGA_GGA+U"]},
        }
    ]


def test_further_systems_are_queried_separately(use_entries):
    rester = use_entries(ENTRIES)
    fetched = fetch_materials_project(ELEMENTS, 0, further=[("F", "Na")])
    assert [query["elements"] for query in rester.queries] == [ELEMENTS, ["F", "Na"]]
    assert fetched.provenance.n_entries == len(ENTRIES)  # no entry twice


def relaxed_phases(campaign: Campaign) -> list[ReferencePhase]:
    """Return the reference phases whose energies are computed."""
    return [phase for phase in phases_of(campaign) if phase.pinned_energy_per_atom is None]


def references_of(campaign: Campaign) -> str:
    """Return the uuid of the job that collects the reference phases."""
    return CampaignFlows(campaign).shared["references"].output.uuid


class TestCampaign:
    """Campaigns with the reference phases of the Materials Project."""

    @pytest.fixture
    def rester(self, use_entries) -> Rester:
        """Client with the entries of Mg-O."""
        return use_entries(ENTRIES)

    @pytest.fixture
    def document(self) -> dict:
        return {
            "name": "magnesia",
            "chemical_system": {"caps": {"Mg": 2, "O": 2}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "references": {"source": "materials_project", "path": "phases.json"},
        }

    @pytest.fixture
    def campaign_file(self, tmp_path: Path, rester, document) -> Path:
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def test_phases_are_fetched_once(self, campaign_file: Path, rester):
        first, second = (read_campaign(campaign_file) for _ in range(2))
        assert [query["elements"] for query in rester.queries] == [ELEMENTS]
        assert first == second
        assert first.references.path == campaign_file.parent / "phases.json"
        assert [phase.source for phase in relaxed_phases(first)] == [
            f"Materials Project mp-{number}" for number in (110, 153, 1265, 2589)
        ]

    def test_kept_structures_equal_fetched_ones(self, campaign_file: Path):
        kept = relaxed_phases(read_campaign(campaign_file))
        fresh = fetch_materials_project(ELEMENTS, 0.05).phases
        assert [phase.structure for phase in kept] == [phase.structure for phase in fresh[:4]]

    def test_other_phases_change_the_reference_set(self, campaign_file: Path, use_entries):
        before = read_campaign(campaign_file)
        uuid = references_of(before)
        (campaign_file.parent / "phases.json").rename(campaign_file.parent / "old.json")
        fewer = [e for e in ENTRIES if e.data["material_id"] != "mp-2589"]
        use_entries(fewer)
        after = read_campaign(campaign_file)
        assert references_of(after) != uuid
        # The hash is a setting of the campaign, so that its hull cannot change.
        assert after.references.sha256 != before.references.sha256

    def test_changed_file_is_a_user_error(self, campaign_file: Path):
        campaign = read_campaign(campaign_file)
        path = campaign_file.parent / "phases.json"
        path.write_text(path.read_text() + "\n")
        with pytest.raises(UserError, match=r"phases\.json: has the hash"):
            phases_of(campaign)

    def test_file_of_other_settings_is_a_user_error(self, campaign_file: Path):
        read_campaign(campaign_file)
        text = campaign_file.read_text()
        campaign_file.write_text(text.replace("path:", "max_energy_above_hull: 0.1\n  path:"))
        with pytest.raises(UserError, match=r"phases\.json: .* Mg-O .* 0\.05 eV/atom"):
            phases_of(read_campaign(campaign_file))

    def test_damaged_file_is_a_user_error(self, campaign_file: Path):
        (campaign_file.parent / "phases.json").write_text("{}")
        with pytest.raises(UserError, match=r"phases\.json"):
            phases_of(read_campaign(campaign_file))

    @pytest.mark.parametrize("value", ["NaN", "Infinity"])
    def test_energy_that_is_not_finite_is_a_user_error(self, campaign_file: Path, value: str):
        read_campaign(campaign_file)
        path = campaign_file.parent / "phases.json"
        document = json.loads(path.read_text())
        document["phases"][0]["published_energy_per_atom"] = float(value)
        path.write_text(json.dumps(document))
        with pytest.raises(UserError, match=r"phases\.json"):
            phases_of(read_campaign(campaign_file))

    def test_default_file_is_beside_the_campaign(self, campaign_file: Path):
        text = campaign_file.read_text()
        campaign_file.write_text(text.replace("path: phases.json", "sha256: null"))
        campaign = read_campaign(campaign_file)
        assert campaign.references.path == campaign_file.parent / "references.json"
        assert campaign.references.path.is_file()

    def test_oxygen_is_pinned(self, campaign_file: Path):
        phases = phases_of(read_campaign(campaign_file))
        pinned = {p.name: p.pinned_energy_per_atom for p in phases if p.pinned_energy_per_atom}
        assert pinned == {"O2": O2_ENERGY}

    def test_energies_of_the_materials_project_with_vasp(self, campaign_file, document):
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
            survivor.origin.label: survivor.relaxation.relaxed.energy_per_atom
            for survivor in survivors
        } == pytest.approx(energies)

    def test_potential_computes_the_energies_of_reference_phases(self, campaign_file, document):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": "vasp"}, "vasp": {"pre_relaxation": "chgnet"}}
        campaign_file.write_text(yaml.safe_dump(document))
        campaign = read_campaign(campaign_file)
        pinned = [phase.pinned_energy_per_atom for phase in phases_of(campaign, by_potential=True)]
        assert pinned == [pytest.approx(O2_ENERGY), None, None, None, None]

    def test_other_energies_change_the_reference_set(self, campaign_file, document, use_entries):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": "vasp"}}
        campaign_file.write_text(yaml.safe_dump(document))
        before = references_of(read_campaign(campaign_file))
        (campaign_file.parent / "phases.json").unlink()
        changed = [entry("mp-1265", ROCKSALT, -6.3), *ENTRIES[1:]]
        use_entries(changed)
        assert references_of(read_campaign(campaign_file)) != before

    @pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
    def test_energies_of_the_materials_project_need_vasp(self, campaign_file, document, name):
        document["references"]["energies"] = "materials_project"
        document["engines"] = {"energy": {"name": name}, "band_gap": {"name": "none"}}
        campaign_file.write_text(yaml.safe_dump(document))
        with pytest.raises(UserError, match=f"engines.energy.name .* '{name}'"):
            read_campaign(campaign_file)
