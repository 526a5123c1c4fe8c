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

LOCAL = frozenset({"localhost", "127.0.0.1"})


@pytest.fixture
def browser(filled):
    return create_app(filled, LOCAL).server.test_client()


def test_files_of_a_candidate(browser):
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
def test_there_are_no_other_files(browser, path):
    answer = browser.get(path)
    assert (answer.status_code, answer.text) == (404, "Not Found.")


def test_a_page_that_passes_for_this_one_is_refused(browser):
    assert browser.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert browser.get("/", headers={"Host": "elsewhere.org"}).status_code == 403


def test_a_page_may_load_nothing_from_elsewhere(browser):
    answer = browser.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    for part in ('src="http', 'href="http', "//cdn"):
        assert part not in answer.text


def test_what_goes_wrong_inside_is_not_told(filled, monkeypatch):
    def fail(*_):
        raise RuntimeError("mongodb://user:secret@host")

    monkeypatch.setattr(module, "structure_text", fail)
    answer = create_app(filled).server.test_client().get(f"/files/{'a' * 16}.cif")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error.")


def ask(browser, output, value, asked="search", asker="url"):
    """Ask as the page does."""
    name, prop = output.split(".")
    return browser.post(
        "/_dash-update-component",
        data=json.dumps(
            {
                "output": output,
                "outputs": {"id": name, "property": prop},
                "inputs": [{"id": asker, "property": asked, "value": value}],
                "state": [{"id": "url", "property": "search"}] * (asked == "pathname"),
                "changedPropIds": [f"{asker}.{asked}"],
            }
        ),
        content_type="application/json",
    )


@pytest.mark.parametrize(("search", "told"), [("", " of 61"), ("?formula=OMg", " of 1")])
def test_candidates_are_counted(browser, search, told):
    answer = ask(browser, "count.children", search).get_json()
    assert answer["response"]["count"]["children"] == told


@pytest.mark.parametrize("path", ["//", "/candidate//x", "/candidate", 5, ["/"], {"a": 1}])
def test_there_are_no_other_pages(browser, path):
    answer = ask(browser, "page.children", path, "pathname")
    assert answer.status_code == 200
    assert "no such page" in answer.text or path == "//"


@pytest.mark.parametrize("search", ["?$where=1", {"$ne": 1}, ["x"], 7])
def test_what_is_no_address_counts_nothing(browser, search):
    answer = ask(browser, "count.children", search)
    assert answer.status_code == 200
    assert answer.get_json()["response"]["count"]["children"] == ""


def test_a_campaign_of_another_version_is_named_and_takes_nothing_along(filled):
    with filled.store("campaigns", key="name") as store:
        store.update(OF_ANOTHER_VERSION)
    browser = create_app(filled, LOCAL).server.test_client()
    assert "controls" in ask(browser, "page.children", "/", "pathname").text
    told = ask(browser, "campaigns.children", None, "n_intervals", "again").text
    assert "'newer' are those of another version" in told
    assert "structures evaluated" in told


def test_who_looks_at_once_is_shown_one_look():
    looks = []

    class Slow(Survey):
        def _look(self):
            looks.append(None)
            time.sleep(0.2)
            return Status(checked_on=datetime.now(UTC), campaigns=(), unreadable=("one",))

    looked = Slow(None)
    with ThreadPoolExecutor(8) as readers:
        found = list(readers.map(lambda _: looked(), range(32)))
    assert len(looks) == 1
    assert {each.unreadable for each in found} == {("one",)}


def test_candidates_without_a_campaign_are_listed(filled):
    with filled.store("campaigns", key="name") as store:
        store.remove_docs({})
    browser = create_app(filled, LOCAL).server.test_client()
    assert "controls" in ask(browser, "page.children", "/", "pathname").text


def test_a_campaign_has_a_page_of_its_own(browser):
    text = ask(browser, "page.children", "/campaigns/mg-mn-o", "pathname").text
    assert "metastable (" in text
    assert "base64," in text
