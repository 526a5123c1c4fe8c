from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pymatgen.core import Structure

from launchers.monitor.status.status_document import Status
from launchers.results.explorer import app as module
from launchers.results.explorer.app import create_app
from launchers.results.explorer.campaign_pages import Survey
from tests.documents import CANDIDATES, OF_ANOTHER_VERSION
from tests.helpers import mg_o

LOCAL = frozenset({"localhost", "127.0.0.1"})


@pytest.fixture
def browser(filled):
    return create_app(filled, LOCAL).server.test_client()


def test_candidate_files(browser):
    cif = browser.get(f"/files/{'a' * 16}.cif")
    assert cif.headers["Content-Disposition"] == 'attachment; filename="MgO_aaaaaaaaaaaaaaaa.cif"'
    assert Structure.from_str(cif.text, "cif").matches(CANDIDATES[0].structure)
    assert "MgO" in browser.get(f"/files/{'a' * 16}.poscar").text
    assert browser.get(f"/files/{'a' * 16}.json").get_json()["stage"] == "photoanode"


@pytest.mark.parametrize(
    "path",
    [
        "/files/" + "f" * 16 + ".cif",
        "/files/" + "a" * 16 + ".exe",
        "/files/" + "a" * 16 + "..cif",
        '/files/{"$ne":1}.json',
        "/files/" + "A" * 16 + ".cif",
    ],
)
def test_other_files_are_not_found(browser, path):
    answer = browser.get(path)
    assert (answer.status_code, answer.text) == (404, "Not Found.")


def test_foreign_host_name_is_forbidden(browser):
    assert browser.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert browser.get("/", headers={"Host": "elsewhere.org"}).status_code == 403


def test_page_loads_nothing_from_other_servers(browser):
    answer = browser.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    for part in ('src="http', 'href="http', "//cdn"):
        assert part not in answer.text


def test_internal_error_is_not_shown(filled, monkeypatch):
    def fail(*_):
        raise RuntimeError("mongodb://user:secret@host")

    monkeypatch.setattr(module, "structure_text", fail)
    answer = create_app(filled).server.test_client().get(f"/files/{'a' * 16}.cif")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error.")


def update(browser, output, value, input_property="search", input_id="url"):
    """Send the callback request that the page sends."""
    output_id, output_property = output.split(".")
    return browser.post(
        "/_dash-update-component",
        data=json.dumps(
            {
                "output": output,
                "outputs": {"id": output_id, "property": output_property},
                "inputs": [{"id": input_id, "property": input_property, "value": value}],
                "state": [{"id": "url", "property": "search"}] * (input_property == "pathname"),
                "changedPropIds": [f"{input_id}.{input_property}"],
            }
        ),
        content_type="application/json",
    )


@pytest.mark.parametrize(("search", "text"), [("", " of 61"), ("?formula=OMg", " of 1")])
def test_candidates_are_counted(browser, search, text):
    answer = update(browser, "count.children", search).get_json()
    assert answer["response"]["count"]["children"] == text


@pytest.mark.parametrize("path", ["//", "/candidate//x", "/candidate", 5, ["/"], {"a": 1}])
def test_other_pages_are_not_found(browser, path):
    answer = update(browser, "page.children", path, "pathname")
    assert answer.status_code == 200
    assert "Page not found" in answer.text or path == "//"


@pytest.mark.parametrize("search", ["?$where=1", {"$ne": 1}, ["x"], 7])
def test_invalid_query_has_no_count(browser, search):
    answer = update(browser, "count.children", search)
    assert answer.status_code == 200
    assert answer.get_json()["response"]["count"]["children"] == ""


def test_unreadable_campaign_is_reported_beside_the_others(filled):
    with filled.store("campaigns", key="name") as store:
        store.update(OF_ANOTHER_VERSION)
    browser = create_app(filled, LOCAL).server.test_client()
    assert "controls" in update(browser, "page.children", "/", "pathname").text
    text = update(browser, "campaigns.children", None, "n_intervals", "refresh").text
    assert "'newer'" in text
    assert "headline" in text


def test_concurrent_requests_share_one_survey():
    reads = []

    class Slow(Survey):
        def read(self):
            reads.append(None)
            time.sleep(0.2)
            return Status(checked_on=datetime.now(UTC), campaigns=(), unreadable=("one",))

    read_status = Slow(None)
    with ThreadPoolExecutor(8) as executor:
        statuses = list(executor.map(lambda _: read_status(), range(32)))
    assert len(reads) == 1
    assert {status.unreadable for status in statuses} == {("one",)}


def test_candidates_without_a_campaign_are_listed(filled):
    with filled.store("campaigns", key="name") as store:
        store.remove_docs({})
    browser = create_app(filled, LOCAL).server.test_client()
    assert "controls" in update(browser, "page.children", "/", "pathname").text


def test_campaign_page_shows_funnel_and_figures(browser):
    text = update(browser, "page.children", "/campaigns/mg-mn-o", "pathname").text
    assert "metastable (" in text
    assert "base64," in text
    assert "Kim et al." in text


def test_campaign_page_of_another_system_has_no_published_counts(filled):
    with filled.store("campaigns", key="name") as store:
        store.update([{"name": "mg-o", "settings": mg_o().model_dump(mode="json")}])
    browser = create_app(filled, LOCAL).server.test_client()
    text = update(browser, "page.children", "/campaigns/mg-o", "pathname").text
    assert "metastable (" in text
    assert "Kim et al." not in text
