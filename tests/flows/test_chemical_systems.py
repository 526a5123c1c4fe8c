"""Campaigns of other chemical systems, with reference phases from files, to ranked candidates."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.analysis.pourbaix_diagram import PREFAC, PourbaixEntry
from pymatgen.core import Composition, Lattice
from pymatgen.core.entries import ComputedEntry

from flows.campaign import CampaignMaker
from flows.references import ReferencesMaker
from flows.routing import label
from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.document import decode
from gan_htvs.core.stages import Stage
from gan_htvs.results.builders.candidates import CandidateBuilder
from gan_htvs.results.builders.stability import StabilityBuilder
from gan_htvs.results.store import CandidateStore
from gan_htvs.thermodynamics.coverage import within
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer, free_energy_per_atom
from gan_htvs.thermodynamics.references import ReferencePhase, elemental_gases
from tests.helpers import CHGNET, crystal
from tests.reference_files import structures_of, write_reference_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Candidate, RelaxedStructure
    from gan_htvs.thermodynamics.hull import ReferenceSet

MN_O = ("Mn alpha", "MnO manganosite", "Mn3O4 hausmannite", "MnO2 beta (pyrolusite)")


class System(NamedTuple):
    """A chemical system to search, and what its reference phases allow."""

    oxidation_states: dict[str, tuple[int, int]]
    composition: str
    shipped: tuple[str, ...]
    gases: set[str]
    uncovered: list[str]


SYSTEMS = {
    "ca-mn-o": System({"Ca": (2, 2), "Mn": (2, 4), "O": (-2, -2)}, "CaMnO3", MN_O, {"O2"}, []),
    "li-mn-o": System({"Li": (1, 1), "Mn": (2, 4), "O": (-2, -2)}, "LiMnO2", MN_O, {"O2"}, []),
    # O2: K2O, MnO2, ZnO, SnO and Na2SO4 are reference solids of aqueous ions.
    "k-mn-f": System(
        {"K": (1, 1), "Mn": (2, 4), "F": (-1, -1)}, "KMnF3", (MN_O[0], MN_O[-1]), {"F2", "O2"}, []
    ),
    "zn-sn-s": System(
        {"Zn": (2, 2), "Sn": (2, 4), "S": (-2, -2)}, "ZnSnS3", (), {"O2"}, ["S-Sn-Zn"]
    ),
    "ti-o-n": System(
        {"Ti": (4, 4), "O": (-2, -2), "N": (-3, -3)}, "Ti2ON2", (), {"N2", "O2"}, ["N-O-Ti"]
    ),
}


class Search(NamedTuple):
    """Results of a campaign."""

    system: System
    campaign: Campaign
    references: ReferenceSet
    relaxed_phases: dict[str, RelaxedStructure]
    candidates: list[Candidate]


@pytest.fixture(scope="module")
def search_of(tmp_path_factory) -> Callable[[str], Search]:
    """Return a function that runs the campaign of a system once."""

    @cache
    def run(name: str) -> Search:
        folder = tmp_path_factory.mktemp(name)
        write_reference_file(folder / "phases.json", structures_of(name, SYSTEMS[name].shipped))
        return run_campaign(folder, name, {"source": "file", "path": "phases.json"})

    return run


@pytest.fixture(params=SYSTEMS)
def search(request, search_of) -> Search:
    return search_of(request.param)


def run_campaign(folder: Path, name: str, references: dict[str, str]) -> Search:
    """Run the campaign of a system in a folder, and build its candidates."""
    system = SYSTEMS[name]
    n_atoms = int(Composition(system.composition).num_atoms)
    settings = {
        "name": name,
        "chemical_system": {"caps": dict.fromkeys(system.oxidation_states, 4)},
        "oxidation_states": {symbol: list(s) for symbol, s in system.oxidation_states.items()},
        "compositions": [{"formula": system.composition, "atoms_per_cell": n_atoms}],
        "references": references,
        "sampling": {
            "proposers": ["symmetric", "substitution"],
            "structures_per_composition": 2,
        },
        "engines": {"band_gap": {"name": "none"}},
        "prescreen": {"confirm": "none"},
    }
    (folder / "campaign.yaml").write_text(json.dumps(settings))
    campaign = read_campaign(folder / "campaign.yaml")
    outputs = MemoryStore(key="uuid")
    flow = label(CampaignMaker.of(campaign).make(campaign), campaign.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_HTVS_SCRATCH", str(folder / "scratch"))
        patch.chdir(folder)
        run_locally(flow, store=JobStore(outputs), log=False, ensure_success=True)
    candidates = MemoryStore(key="candidate_id")
    build(campaign, outputs, candidates)
    by_job = {document["name"]: document["output"] for document in outputs.query()}
    return Search(
        system,
        campaign,
        decode(by_job["references"]),
        decode(by_job["relax reference phases"]),
        CandidateStore(candidates).query(campaign=campaign.name),
    )


def build(campaign: Campaign, outputs: MemoryStore, candidates: MemoryStore) -> None:
    """Build the candidates from the outputs of the jobs."""
    campaigns = MemoryStore(key="name")
    for store in (outputs, campaigns, candidates):
        store.connect()
    campaigns.update([{"name": campaign.name, "settings": campaign.model_dump(mode="json")}])
    for kind in (CandidateBuilder, StabilityBuilder):
        builder = kind(outputs, campaigns, candidates)
        builder.update_targets([builder.process_item(item) for item in builder.get_items()])
    builder.settle()


@pytest.mark.parametrize(
    ("system", "phase", "symbol", "expected"),
    [
        ("zn-sn-s", "ZnO zincite", "Zn", [1.974, 1.989]),
        ("zn-sn-s", "SnO romarchite", "Sn", [2.223]),
        ("zn-sn-s", "Na2SO4 thenardite", "S", [1.479]),
        ("zn-sn-s", "Na2SO4 thenardite", "Na", [2.334, 2.425, 2.538]),
        ("ti-o-n", "N2O5 nitronium nitrate", "N", [1.154, 1.240]),
    ],
)
def test_reference_solids_of_aqueous_ions_have_their_bond_lengths(system, phase, symbol, expected):
    solid = structures_of(system)[phase]
    centers, neighbors, _, distances = solid.get_neighbor_list(max(expected) + 0.1)
    lengths = {
        round(distance, 3)
        for i, j, distance in zip(centers, neighbors, distances.tolist(), strict=True)
        if (solid[i].specie.symbol, solid[j].specie.symbol) == (symbol, "O")
    }
    assert sorted(lengths) == pytest.approx(expected, abs=0.002)


def test_all_reference_phases_are_relaxed(search):
    energies = {entry.name: entry.energy_per_atom for entry in search.references.entries}
    expected = set(structures_of(search.campaign.name, search.system.shipped))
    assert set(search.relaxed_phases) == expected
    gases = {gas.name: gas.pinned_energy_per_atom for gas in elemental_gases().values()}
    assert set(energies) - expected == search.system.gases
    assert {name: energies[name] for name in search.system.gases}.items() <= gases.items()
    for name, relaxed in search.relaxed_phases.items():
        assert relaxed.converged
        assert relaxed.level_of_theory == CHGNET
        assert relaxed.energy_per_atom == energies[name]


def test_metals_with_large_atoms_keep_their_volume(search):
    """The volumes of Ca and K exceed the limit for generated structures, 40 A^3/atom."""
    for name, volume in (("Ca fcc", 43.6), ("K bcc", 75.6)):
        if name in search.relaxed_phases:
            cell = search.relaxed_phases[name].structure
            assert cell.volume / len(cell) == pytest.approx(volume, rel=0.05)


def test_cesium_is_relaxed_as_a_reference_phase():
    metal = crystal("Im-3m", Lattice.cubic(6.141), Cs=[0, 0, 0])
    phase = ReferencePhase("Cs bcc", metal, "Wyckoff, Crystal Structures 1 (1963)")
    flow = ReferencesMaker().make([phase])
    outputs = run_locally(flow, log=False, ensure_success=True)
    relaxed = outputs[flow.jobs[0].uuid][1].output["Cs bcc"]
    (entry,) = outputs[flow.output.uuid][1].output.entries
    assert entry.energy_per_atom == relaxed.energy_per_atom
    assert relaxed.structure.volume == pytest.approx(metal.volume, rel=0.05)


def test_candidates_are_ranked_by_energy_above_hull(search):
    ranked = [c for c in search.candidates if c.energy_above_hull is not None]
    assert len(search.candidates) >= 3
    assert ranked
    energies = [candidate.energy_above_hull for candidate in ranked]
    assert energies == sorted(energies)
    for candidate in ranked:
        assert candidate.stage not in {Stage.GENERATED, Stage.FAILED}
        assert candidate.level_of_theory == CHGNET
        assert candidate.formula_pretty == Composition(search.system.composition).reduced_formula


def test_subsystems_without_phases_are_a_warning_of_each_candidate(search):
    assert within(search.references.uncovered_subsystems, search.system.oxidation_states) == (
        search.system.uncovered
    )
    for candidate in search.candidates:
        if candidate.energy_above_hull is not None:
            assert candidate.uncovered_subsystems == search.system.uncovered


def test_energies_above_hull_agree_with_pymatgen(search):
    diagram = search.references.phase_diagram
    for candidate in search.candidates:
        if candidate.reference_decomposition_energy is not None:
            cell = candidate.structure.composition
            entry = PDEntry(cell, candidate.energy_per_atom * cell.num_atoms)
            expected = diagram.get_e_above_hull(entry, allow_negative=True)
            assert candidate.reference_decomposition_energy == pytest.approx(expected, abs=1e-8)


def test_stable_candidates_are_at_zero_and_unstable_ones_above(search):
    compared = [c for c in search.candidates if c.energy_above_hull is not None]
    cells = [candidate.structure.composition for candidate in compared]
    entries = [
        PDEntry(cell, candidate.energy_per_atom * cell.num_atoms)
        for cell, candidate in zip(cells, compared, strict=True)
    ]
    # The same crystal as a reference phase does not compete with it.
    competing = [
        entry
        for entry, candidate in zip(entries, compared, strict=True)
        if not (candidate.novelty and candidate.novelty.reference_match)
    ]
    diagram = PhaseDiagram([*search.references.phase_diagram.entries, *competing])
    for entry, candidate in zip(entries, compared, strict=True):
        above = max(diagram.get_e_above_hull(entry, allow_negative=True), 0)
        assert candidate.energy_above_hull == pytest.approx(above, abs=1e-8)
        assert candidate.energy_above_hull == max(candidate.decomposition_energy, 0)
        assert sum(candidate.decomposes_to.values()) == pytest.approx(1, abs=1e-12)


def test_pourbaix_energies_agree_with_pymatgen(search):
    analyzer = PourbaixAnalyzer(search.references, search.campaign.pourbaix)
    for candidate in search.candidates:
        if candidate.energy_above_hull is not None:
            expected = pourbaix_energies(candidate, analyzer)
            energies = candidate.pourbaix.decomposition_energies
            assert energies == pytest.approx(expected, abs=1e-8)


def pourbaix_energies(candidate: Candidate, analyzer: PourbaixAnalyzer) -> NDArray[np.float64]:
    """Compute the Pourbaix decomposition energies of a candidate with pymatgen, eV/atom."""
    cell = candidate.structure.composition
    energy = free_energy_per_atom(cell, candidate.formation_energy_per_atom) * cell.num_atoms
    solutes = {el.symbol: n for el, n in cell.items() if el.symbol != "O"}
    ph = np.array(candidate.pourbaix.ph)
    potential = analyzer.settings.potential_vs_rhe - PREFAC * ph
    diagram = analyzer.diagram(solutes)
    return diagram.get_decomposition_energy(
        PourbaixEntry(ComputedEntry(cell, energy)), ph, potential
    )


def test_phases_of_an_optimade_server_give_the_same_candidates(search_of, tmp_path, free_port):
    pytest.importorskip("optimade.server", reason="needs the extra optimade")
    from tests.optimade_server import entry, serving

    from_file = search_of("ca-mn-o")
    phases = structures_of("ca-mn-o", MN_O)
    entries = [entry(f"id-{i}", structure) for i, structure in enumerate(phases.values())]
    with serving(entries, "local", [], free_port(), tmp_path) as server:
        references = {"source": "optimade", "provider": server.url}
        fetched = run_campaign(tmp_path, "ca-mn-o", references)
    energies = [
        {c.candidate_id: c.energy_above_hull for c in search.candidates}
        for search in (from_file, fetched)
    ]
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)
