from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

pytest.importorskip("optimade", reason="needs the extra optimade")

import requests
from optimade.adapters import Structure as OptimadeStructure
from optimade.validator import ImplementationValidator
from pydantic import SecretStr
from pymatgen.core import Lattice, Structure

from gan_htvs.core.document import encode
from gan_htvs.results.builders.optimade import PROPERTIES
from launchers.results.optimade_server import build_entries, create_app
from tests.documents import CANDIDATES, candidate
from tests.optimade_server import running

FIELDS = {f"_ganhtvs_{extra.name}" for extra in PROPERTIES}


@pytest.fixture
def filled(databases):
    with databases.store("candidates", key="candidate_id") as store:
        store.update([encode(candidate) for candidate in CANDIDATES[:20]])
    return databases


@pytest.fixture
def url(filled, tmp_path, free_port):
    """The URL of a running server."""
    build_entries(filled)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    app = create_app(filled, None, tmp_path / "logs")
    with running(app, port):
        yield url


def get(url, path, query_filter=None):
    return requests.get(
        f"{url}/v1/{path}", params=query_filter and {"filter": query_filter}, timeout=60
    )


def matching_ids(url, query_filter):
    answer = get(url, "structures", query_filter)
    assert answer.status_code == 200, answer.text
    return {entry["id"] for entry in answer.json()["data"]}


def test_entry_has_structure_and_computed_properties(url):
    data = get(url, f"structures/{'a' * 16}").json()["data"]
    attributes = data["attributes"]
    assert {name for name in attributes if name.startswith("_")} == FIELDS
    assert attributes["_ganhtvs_band_gap"] == 2.0
    assert attributes["_ganhtvs_pourbaix_min"] == 0.4
    assert attributes["last_modified"].startswith("2026-01-01T00:00:00")
    assert OptimadeStructure(data).as_pymatgen.matches(CANDIDATES[0].structure)


@pytest.mark.parametrize(
    ("query_filter", "n"),
    [
        ('elements HAS ALL "Mg","O"', 1),
        ('elements HAS "Mn"', 19),
        ("nelements=3", 0),
        ('chemical_formula_reduced="MnO" AND _ganhtvs_energy_above_hull<0.2055', 6),
        ('_ganhtvs_stage="photoanode"', 1),
        ("_ganhtvs_band_gap IS KNOWN", 1),
    ],
)
def test_standard_filters(url, query_filter, n):
    assert len(matching_ids(url, query_filter)) == n


@pytest.mark.parametrize(
    ("query_filter", "n"),
    [
        ('_ganhtvs_reason CONTAINS "0.2 (eV"', 1),
        ('_ganhtvs_reason STARTS WITH "more"', 1),
        ('_ganhtvs_reason ENDS WITH "atom)"', 1),
        ('_ganhtvs_reason CONTAINS "m.re"', 0),
        ('_ganhtvs_reason CONTAINS "(.*)*(.*)*(.*)*Q"', 0),
    ],
)
def test_strings_are_not_regular_expressions(filled, url, query_filter, n):
    with filled.store("optimade_structures", key="candidate_id") as entries:
        document = entries.query_one({"id": "a" * 16})
        entries.update(document | {"reason": "more than 0.2 (eV/atom)"})
    assert len(matching_ids(url, query_filter)) == n


def test_disordered_structure_has_no_entry(filled):
    mixed = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Mn": 0.5}, "O"], [[0] * 3, [0.5] * 3])
    with filled.store("candidates", key="candidate_id") as store:
        store.update(encode(candidate("c" * 16, structure=mixed)))
    n_entries, refused = build_entries(filled)
    assert (n_entries, list(refused)) == (20, ["c" * 16])


def test_entries_of_deleted_or_disordered_candidates_are_removed(filled):
    build_entries(filled)
    mixed = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Mn": 0.5}, "O"], [[0] * 3, [0.5] * 3])
    later = {"last_updated": datetime(2026, 2, 1, tzinfo=UTC)}
    with filled.store("candidates", key="candidate_id") as store:
        store.update(encode(candidate("a" * 16, structure=mixed, **later)))
        store.remove_docs({"candidate_id": CANDIDATES[1].candidate_id})
    assert build_entries(filled)[0] == 18


def test_info_has_all_properties_with_units(url):
    properties = get(url, "info/structures").json()["data"]["properties"]
    assert properties["_ganhtvs_band_gap"]["unit"] == "eV"
    assert properties.keys() > FIELDS


def test_entries_follow_the_candidates(filled):
    assert build_entries(filled) == (20, {})
    changed = CANDIDATES[0].model_copy(
        update={"band_gap": 2.5, "last_updated": datetime(2026, 2, 1, tzinfo=UTC)}
    )
    added = candidate("b" * 16)
    with filled.store("candidates", key="candidate_id") as store:
        store.update([encode(changed), encode(added)])
        store.remove_docs({"candidate_id": CANDIDATES[1].candidate_id})
    assert build_entries(filled) == (20, {})
    with filled.store("optimade_structures", key="candidate_id") as entries:
        names = set(entries.distinct("id"))
        assert {"b" * 16} <= names
        assert not names & {CANDIDATES[1].candidate_id, "f" * 16}
        assert entries.query_one({"id": "a" * 16})["band_gap"] == 2.5


@pytest.mark.parametrize(
    "query_filter", ["$where", 'elements HAS "Mg', "nosuch=1", "_ganhtvs_no=1"]
)
def test_invalid_filter_is_a_bad_request_without_traceback(url, query_filter):
    answer = get(url, "structures", query_filter)
    assert answer.status_code == 400
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page_limit=-5", 400),
        ("page_limit=abc", 400),
        ("page_offset=-1", 400),
        ("email_address=x", 400),
        ("page_offset=99999999999999999999999", 400),
        ("page_number=99999999999999999999999", 400),
        ("filter=nsites > 99999999999999999999999", 400),
        ("filter=structure_features LENGTH 99999999999999999999999", 400),
        ('filter=last_modified > "x"', 400),
        ("filter=" + 900 * "(" + "nsites=1" + 900 * ")", 400),
        ("filter=" + " OR ".join(400 * ["nsites=1"]), 414),
    ],
)
def test_invalid_request_is_an_error_without_internals(url, query, status):
    answer = requests.get(f"{url}/v1/structures?{query}", timeout=60)
    assert answer.status_code == status
    assert answer.json()["errors"]
    for internal in ("File", "site-packages", "Error:", ".py"):
        assert internal not in answer.text


def test_password_is_not_logged_or_printed(filled, tmp_path, capfd):
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    for name in ("optimade", "optimade.gan-htvs"):
        logging.getLogger(name).addHandler(handler)
    settings = filled.settings.model_copy(
        update={"username": "reader", "password": SecretStr("s3cret")}
    )
    create_app(type(filled)(settings), "http://testserver", tmp_path / "logs")
    out = capfd.readouterr()
    assert messages
    assert "s3cret" not in "".join([*messages, out.out, out.err])


def test_optimade_validator_passes(url):
    validator = ImplementationValidator(base_url=url, verbosity=0)
    validator.validate_implementation()
    assert validator.results.failure_messages == []
    assert validator.results.internal_failure_messages == []
    assert validator.valid
