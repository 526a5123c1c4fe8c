"""Reference phases of OPTIMADE servers, fetched from the server of optimade-python-tools."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml

pytest.importorskip("optimade", reason="needs the extra optimade")
pytest.importorskip("uvicorn", reason="needs the extra optimade")

from pymatgen.core import Lattice, Structure
from pymatgen.io.optimade import OptimadeStructureAdapter

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.thermodynamics.reference_sources import optimade
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from gan_htvs.thermodynamics.reference_sources.fetched_file import Provenance
from gan_htvs.thermodynamics.reference_sources.optimade import PROVIDERS, fetch_optimade
from tests.gan_htvs.thermodynamics.reference_sources.test_own_files import (
    CALCIUM,
    COINCIDING,
    LIME,
    tilted_perovskite,
)
from tests.helpers import rocksalt
from tests.optimade_server import entry, serving

OXYGEN = Structure(Lattice.cubic(6), ["O", "O"], [[0, 0, 0], [0, 0, 0.2]])
BCC = Structure(Lattice.cubic(4.4), ["Ca", "Ca"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL = Structure(Lattice.cubic(2.9), ["Ca", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

FLUORITE = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]
)

CRYSTALS = {
    "mp-45": (CALCIUM, 0.0),
    "mp-21": (BCC, 0.03),
    "mp-12957": (OXYGEN, 0.0),
    "mp-2605": (LIME, 0.0),
    "mp-1008": (CSCL, 0.4),
    "mp-8081": (CSCL, 0.05),
    "mp-1": (rocksalt("Mg"), 0.0),
    "mp-2741": (FLUORITE, 0.0),
    "mp-561203": (Structure(Lattice.cubic(6), ["F", "F"], [[0, 0, 0], [0, 0, 0.24]]), 0.0),
    "mp-682": (rocksalt("Na", 4.63, "F"), 0.0),
    "mp-127": (Structure(Lattice.cubic(4.2), ["Na", "Na"], [[0, 0, 0], [0.5, 0.5, 0.5]]), 0.0),
    "mp-5229": (tilted_perovskite(), 0.0),
}
"""Structures, and energies above hull, eV/atom."""


@pytest.fixture(scope="module")
def start(free_port, tmp_path_factory):
    """Return a function that starts a server."""
    with ExitStack() as stack:

        def call(entries, prefix, fields):
            logs = tmp_path_factory.mktemp(prefix)
            return stack.enter_context(serving(entries, prefix, fields, free_port(), logs))

        yield call


@pytest.fixture(scope="module")
def materials_project_server(start):
    entries = [
        entry(
            name,
            structure,
            stability={
                "gga_gga+u": {"energy_above_hull": energy},
                "r2scan": {"energy_above_hull": 0.0},
            },
        )
        for name, (structure, energy) in CRYSTALS.items()
    ]
    only_r2scan = {"r2scan": {"energy_above_hull": 0.0}}
    entries.append(entry("mp-9", LIME, stability=only_r2scan))
    entries.append(entry("mp-10", LIME, stability=None))
    return start(entries, "mp", ["stability"])


@pytest.fixture(scope="module")
def alexandria_server(start):
    entries = [
        entry(name.replace("mp-", "agm"), structure, hull_distance=energy)
        for name, (structure, energy) in CRYSTALS.items()
    ]
    return start(entries, "alexandria", [{"name": "hull_distance", "type": "float"}])


@pytest.fixture(scope="module")
def other_server(start):
    entries = [entry(name, structure) for name, (structure, _) in CRYSTALS.items()]
    slab = entry("slab", CSCL) | {"nperiodic_dimensions": 2, "dimension_types": [1, 1, 0]}
    alloy = entry("alloy", CSCL) | {
        "species": [{"name": "M", "chemical_symbols": ["Ca", "O"], "concentration": [0.5, 0.5]}],
        "species_at_sites": ["M", "M"],
    }
    return start([*entries, alloy, slab], "own", [])


@pytest.fixture
def provider(monkeypatch, materials_project_server, alexandria_server):
    """Replace the addresses of the known providers, and return their servers."""
    servers = {"materials_project": materials_project_server, "alexandria": alexandria_server}
    for name, server in servers.items():
        server.queries.clear()
        server.failing = None
        monkeypatch.setitem(PROVIDERS, name, replace(PROVIDERS[name], base_url=server.url))
    monkeypatch.setattr(optimade, "N_RETRIES", 1)
    return servers


def names(fetched):
    return [phase.name for phase in fetched.phases]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (0, ["Ca mp-45", "CaO mp-2605", "O2 mp-12957"]),
        (0.05, ["Ca mp-21", "Ca mp-45", "CaO mp-2605", "CaO mp-8081", "O2 mp-12957"]),
    ],
)
def test_energies_of_the_materials_project_are_compared_here(provider, bound, expected):
    fetched = fetch_optimade(["O", "Ca"], "materials_project", bound)
    assert names(fetched) == expected
    assert not any("energy" in query for query in provider["materials_project"].queries)


def test_entries_without_energies_of_the_functional_are_counted(provider):
    skipped = fetch_optimade(["O", "Ca"], "materials_project", 0.05).provenance.skipped
    assert skipped == {"too far above the hull": 1, "no energy above hull": 2}


def test_energies_of_alexandria_are_compared_by_the_server(provider):
    fetched = fetch_optimade(["Ca", "O"], "alexandria", 0.03)
    assert names(fetched) == ["Ca agm21", "Ca agm45", "CaO agm2605", "O2 agm12957"]
    assert fetched.provenance.n_entries == 4
    assert fetched.provenance.skipped == {}


def test_one_query_for_each_subsystem_and_all_pages(provider):
    steps = []
    fetched = fetch_optimade(["Ca", "O"], "materials_project", 1, lambda *step: steps.append(step))
    server = provider["materials_project"]
    assert list(dict.fromkeys(server.queries)) == list(fetched.provenance.filters)
    assert fetched.provenance.filters == (
        'elements HAS ALL "Ca" AND nelements=1',
        'elements HAS ALL "O" AND nelements=1',
        'elements HAS ALL "Ca","O" AND nelements=2',
    )
    assert server.n_requests > len(fetched.provenance.filters)
    assert fetched.provenance.n_entries == 8
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_other_servers_have_structures_only(other_server):
    fetched = fetch_optimade(["Ca", "O"], f"{other_server.url}/", 0.0)
    assert len(fetched.phases) == 6
    assert not fetched.provenance.has_energies
    assert fetched.provenance.skipped == {
        "its sites are partly occupied": 1,
        "not periodic in three dimensions": 1,
    }


def test_small_distortions_are_not_averaged(provider):
    fetched = fetch_optimade(["Sr", "Ti", "O"], "alexandria", 0)
    (phase,) = (phase for phase in fetched.phases if phase.formula == "SrTiO3")
    assert len(phase.structure) == 10


def test_structures_equal_those_of_the_server(provider):
    fetched = fetch_optimade(["Ca", "O"], "materials_project", 0)
    lime = next(phase for phase in fetched.phases if phase.formula == "CaO")
    assert len(lime.structure) == 2
    assert lime.structure.matches(LIME)
    assert lime.source == "Materials Project mp-2605"
    assert lime.energy_per_atom is None


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
@pytest.mark.parametrize("failing", [1, 4])  # 4: the second page of Ca-O
def test_failure_of_any_page_is_a_user_error(provider, failing, status):
    server = provider["materials_project"]
    server.failing, server.status = failing, status
    with pytest.raises(UserError, match=server.url) as error:
        fetch_optimade(["Ca", "O"], "materials_project", 0.05)
    assert "failed" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_message_of_a_failure_is_printed_once_and_complete(provider, capsys):
    server = provider["materials_project"]
    server.failing, server.status = 1, 400
    with pytest.raises(UserError) as error:
        fetch_optimade(["Ca", "O"], "materials_project", 0.05)
    assert capsys.readouterr() == ("", "")
    assert f"400 - {server.url}/v1/structures" in str(error.value)
    assert "Failure: the database is away" in str(error.value)
    assert "response_fields" not in str(error.value)


@pytest.fixture
def answering():
    """Return a function that starts a server which gives one answer to all requests."""
    with ExitStack() as stack:

        def start(document, status=200, **headers):
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    content = json.dumps(document).replace("URL", self.headers["Host"]).encode()
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

                def log_message(self, *_):
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"meta": {}}, "no list of data"),
        ({"data": None}, "no list of data"),
        ({"data": {}}, "no list of data"),
        ([], "no list of data"),
        ({"data": [{"attributes": {}}]}, "no id of entry 1"),
        ({"data": [{"id": None, "attributes": {}}]}, "no id of entry 1"),
        ({"data": [1]}, "no id of entry 1"),
        ({"data": [{"id": "mp-1"}]}, "no attributes of entry mp-1"),
        ({"data": [{"id": "mp-1", "attributes": None}]}, "no attributes of entry mp-1"),
        (
            {
                "data": [{"id": "mp-1", "attributes": {}}],
                "links": {"next": "http://URL/v1/structures?page=2"},
            },
            "leads to one that was read before",
        ),
        ({"data": [], "meta": None}, "malformed: meta: must be a mapping"),
        ({"data": [], "meta": {"data_returned": "5"}}, "malformed: meta.data_returned: "),
        ({"data": [], "links": None}, "malformed: links: must be a mapping"),
        ({"data": [], "links": {"next": {}}}, "malformed: links.next"),
        ({"data": [], "errors": None}, "malformed: errors: "),
    ],
)
def test_malformed_answer_is_a_user_error(answering, document, problem):
    url = answering(document)
    with pytest.raises(UserError, match=problem) as error:
        fetch_optimade(["Ca"], url, 0.05)
    assert url in str(error.value)
    assert "Error:" not in str(error.value)


def test_empty_subsystem_is_no_error(answering):
    assert fetch_optimade(["Ca"], answering({"data": []}), 0.05).provenance.n_entries == 0


def test_long_wait_of_a_busy_server_is_a_user_error(answering):
    url = answering({}, 429, Retry_After="3600")
    with pytest.raises(UserError, match=r"429: .* wait 3600 s"):
        fetch_optimade(["Ca"], url, 0.05)


def test_waiting_for_a_busy_server_is_shown(answering, monkeypatch):
    monkeypatch.setattr(optimade, "N_RETRIES", 1)
    url, steps = answering({}, 429, Retry_After="1"), []
    with pytest.raises(UserError, match="429"):
        fetch_optimade(["Ca"], url, 0.05, lambda *step: steps.append(step))
    assert steps == [(0, 1), (0, 1, "server busy, trying again in 1 s")]


@pytest.mark.parametrize(
    "energy", [float("nan"), float("inf"), -float("inf"), "0.01", None, [], True]
)
def test_energies_that_are_no_finite_number_count_as_missing(answering, monkeypatch, energy):
    resource = {"id": "mp-1"} | OptimadeStructureAdapter.get_optimade_structure(CALCIUM.copy())
    resource["attributes"]["_alexandria_hull_distance"] = energy
    server = replace(PROVIDERS["alexandria"], base_url=answering({"data": [resource]}))
    monkeypatch.setitem(PROVIDERS, "alexandria", server)
    fetched = fetch_optimade(["Ca"], "alexandria", 0.05)
    assert fetched.phases == []
    assert fetched.provenance.skipped == {"no energy above hull": 1}


def test_atoms_at_one_place_are_skipped(answering):
    resource = {"id": "mp-1"} | OptimadeStructureAdapter.get_optimade_structure(COINCIDING.copy())
    fetched = fetch_optimade(["Ca"], answering({"data": [resource]}), 0.05)
    assert fetched.provenance.skipped == {"two of its atoms are closer than 0.1 A": 1}


def test_server_that_is_away_is_a_user_error(provider, free_port, monkeypatch):
    monkeypatch.setattr(optimade, "N_RETRIES", 0)
    with pytest.raises(UserError, match="failed"):
        fetch_optimade(["Ca", "O"], f"http://127.0.0.1:{free_port()}", 0.05)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"errors": ["timeout"]}, "failed: timeout"),
        ({"errors": [{"title": "Bad", "detail": "no\nfield"}]}, "failed: Bad no"),
        ({"meta": {"data_returned": 5}}, "returned 4 of 5"),
        ({"meta": {"data_returned": 3}}, None),
        ({"links": {"next": "http://a/b?page=2"}}, "there are more"),
        ({"meta": {"more_data_available": True}}, "there are more"),
    ],
)
def test_incomplete_responses(changes, problem):
    response = {"errors": [], "meta": {"data_returned": 4}, "links": {"next": None}} | changes
    found = optimade._problem(response, 4)
    assert (found is None) if problem is None else (problem in found)


class TestCampaign:
    """Campaigns whose reference phases are fetched."""

    @pytest.fixture
    def campaign_file(self, tmp_path, provider):
        document = {
            "name": "lime",
            "chemical_system": {"caps": {"Ca": 2, "O": 2}},
            "oxidation_states": {"Ca": [2, 2], "O": [-2, -2]},
            "references": {"source": "optimade"},
        }
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def change(self, campaign_file, **references):
        document = yaml.safe_load(campaign_file.read_text())
        document["references"] |= references
        campaign_file.write_text(yaml.safe_dump(document))

    def test_phases_are_fetched_once_and_kept(self, campaign_file, provider):
        first = read_campaign(campaign_file)
        n_requests = provider["materials_project"].n_requests
        assert read_campaign(campaign_file) == first
        assert provider["materials_project"].n_requests == n_requests
        assert first.references.path == campaign_file.parent / "references.json"
        assert [phase.name for phase in phases_of(first)] == [
            *("O2", "Ca mp-21", "Ca mp-45", "CaO mp-2605", "CaO mp-8081")
        ]

    def test_automatic_source_reads_the_kept_file(self, campaign_file):
        fetched = phases_of(read_campaign(campaign_file))
        self.change(campaign_file, source="auto")
        campaign = read_campaign(campaign_file)
        assert campaign.references.source == "file"
        assert phases_of(campaign) == fetched

    def test_nothing_is_kept_after_a_failure(self, campaign_file, provider):
        provider["materials_project"].failing = 4
        with pytest.raises(UserError):
            read_campaign(campaign_file)
        assert not (campaign_file.parent / "references.json").exists()

    @pytest.mark.parametrize(
        "changes", [{"provider": "alexandria"}, {"max_energy_above_hull": 0.1}]
    )
    def test_file_of_other_settings_is_a_user_error(self, campaign_file, changes):
        read_campaign(campaign_file)
        self.change(campaign_file, **changes)
        with pytest.raises(UserError, match=r"was fetched for Ca-O from optimade"):
            phases_of(read_campaign(campaign_file))

    def test_competing_oxides_and_reference_solids_of_ions(self, campaign_file, provider):
        text = campaign_file.read_text().replace("O:", "F:").replace("- -2", "- -1")
        campaign_file.write_text(text)
        campaign = read_campaign(campaign_file)
        queries = dict.fromkeys(provider["materials_project"].queries)
        assert [query for query in queries if '"O"' in query and '"F"' not in query] == [
            'elements HAS ALL "O" AND nelements=1',
            'elements HAS ALL "Ca","O" AND nelements=2',
        ]
        assert 'elements HAS ALL "F","Na" AND nelements=2' in queries
        assert 'elements HAS ALL "Ca","Na" AND nelements=2' not in queries
        assert [phase.name for phase in phases_of(campaign)] == [
            *("F2", "O2", "Ca mp-21", "Ca mp-45", "CaF2 mp-2741", "CaO mp-2605", "CaO mp-8081"),
            *("Na mp-127", "NaF mp-682"),
        ]

    def test_element_without_phase_is_a_user_error(self, campaign_file):
        text = campaign_file.read_text().replace("Ca:", "Ba:")
        campaign_file.write_text(text)
        with pytest.raises(UserError, match="no elemental phase of Ba"):
            read_campaign(campaign_file)
        assert not (campaign_file.parent / "references.json").exists()


def test_kept_requests_cover_subsystems():
    request = Provenance(
        source="optimade",
        provider="alexandria",
        elements=("Ca", "Mn", "O"),
        max_energy_above_hull=0.05,
        n_entries=9,
    )
    smaller = request.model_copy(update={"elements": ("Ca", "O")})
    assert request.covers(smaller)
    assert not smaller.covers(request)
