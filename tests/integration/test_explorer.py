"""The web page in headless Chromium."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymatgen.core import Structure
from pymongo import monitoring

from launchers.launchpad.database import open_databases
from tests.documents import CANDIDATES, store_campaign
from tests.integration.conftest import SMALL_CAMPAIGN, TIMEOUT

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
waitress = pytest.importorskip("waitress", reason="needs the extra explore")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

READS = {"find", "aggregate", "count", "distinct", "getMore", "killCursors"}
ABOUT_THE_SERVER = {"hello", "ismaster", "isMaster", "ping", "buildInfo", "endSessions",
                    "listCollections", "listIndexes"}  # fmt: skip
ABORTED = "net::ERR_ABORTED"
"""Error of downloads, and of requests of a page that is closed."""
VIEWER_REMOVED = "null (reading 'domElement')"
"""Error of Crystal Toolkit's viewer when it is removed from a page."""
ARTEFACTS = os.environ.get("GAN_HTVS_ARTEFACTS")


class Commands(monitoring.CommandListener):
    """Record the names of the commands that the database receives."""

    def __init__(self):
        self.names = set()

    def started(self, event):
        self.names.add(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture
def serve(launchpad_file, free_port):
    """Return a function that serves the page of a database and returns its address."""
    from launchers.results.explorer.app import create_app

    servers = []

    def start(candidates=()):
        with open_databases(launchpad_file) as databases:
            if candidates:
                store_campaign(databases, candidates)
            port = free_port()
            server = waitress.create_server(
                create_app(databases).server, host="127.0.0.1", port=port, threads=4
            )
            servers.append(server)
            threading.Thread(target=server.run, daemon=True).start()
            return f"http://127.0.0.1:{port}"

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """Browser page with a long timeout; errors of its scripts and requests fail the test."""
    page = chromium.new_page(viewport={"width": 1300, "height": 950})
    page.set_default_timeout(60_000)
    page.errors = []
    page.on(
        "pageerror", lambda error: VIEWER_REMOVED in str(error) or page.errors.append(str(error))
    )
    page.on(
        "requestfailed",
        lambda request: request.failure == ABORTED or page.errors.append(request.url),
    )
    yield page
    page.close()
    assert page.errors == []


def screenshot(page, name):
    if ARTEFACTS:
        Path(ARTEFACTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{ARTEFACTS}/{name}.png", full_page=True)


def expect_rows(page, n):
    playwright.expect(page.locator("#results tbody tr")).to_have_count(n, timeout=60_000)


def test_filter_open_and_download_a_candidate(serve, page, tmp_path):
    commands = Commands()
    monitoring.register(commands)
    address = serve(CANDIDATES)
    commands.names.clear()
    foreign = []
    page.on(
        "request",
        lambda request: (
            request.url.startswith((address, "data:", "blob:")) or foreign.append(request.url)
        ),
    )

    page.goto(address)
    expect_rows(page, 50)
    page.get_by_text(" of 61").wait_for()
    page.locator("#next").click()
    expect_rows(page, 11)

    page.fill("#formula", "OMg")
    page.press("#formula", "Enter")
    expect_rows(page, 1)
    assert "formula=OMg" in page.url
    page.wait_for_selector("#figure .scatterlayer")
    page.go_back()
    expect_rows(page, 11)
    playwright.expect(page.locator("#formula")).to_have_value("")
    page.go_forward()
    expect_rows(page, 1)
    playwright.expect(page.locator("#formula")).to_have_value("OMg")
    screenshot(page, "explorer-list")

    page.locator("#results tbody a").first.click()
    page.wait_for_selector("#properties")
    assert page.url.endswith("/candidate/" + "a" * 16)
    assert "photoanode" in page.inner_text("#properties")
    page.wait_for_selector("#pourbaix .main-svg >> nth=0")
    page.wait_for_timeout(2500)
    picture = Image.open(io.BytesIO(page.locator(".view canvas").first.screenshot()))
    colors = np.asarray(picture.convert("RGB")).astype(int)
    reds = (colors[..., 0] > 150) & (colors[..., 1] < 90)
    assert reds.mean() > 0.002, "no oxygen atoms in the picture"
    screenshot(page, "explorer-candidate")

    with page.expect_download() as download:
        page.click("#file-cif")
    path = tmp_path / "download.cif"
    download.value.save_as(path)
    assert download.value.suggested_filename == "MgO_aaaaaaaaaaaaaaaa.cif"
    assert Structure.from_file(path).matches(CANDIDATES[0].structure)

    page.get_by_role("link", name="campaigns").click()
    page.wait_for_selector(".card")
    assert "0 of" in page.inner_text(".headline")
    screenshot(page, "explorer-campaigns")
    assert foreign == []
    assert commands.names & READS
    assert commands.names <= READS | ABOUT_THE_SERVER


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/?band_gap[$gt]=1", "is not a filter"),
        ("/?formula=$where", "is not a chemical formula"),
        ("/?energy_above_hull=..0.0001", "No candidate matches"),
        ("/candidate/ffffffffffffffff", "no candidate"),
        ("/candidate/x$ne", "no candidate"),
        ("/campaigns/none", "no campaign 'none'"),
        ("/elsewhere/at/all", "Page not found"),
    ],
)
def test_unknown_addresses_show_a_message(serve, page, path, message):
    page.goto(serve(CANDIDATES) + path)
    page.get_by_text(message).first.wait_for()


def test_filters_of_the_address_are_shown_in_controls(serve, page):
    page.goto(serve(CANDIDATES) + "/?formula=MgO&unique=true&band_gap=1.6..3.0")
    expect_rows(page, 1)
    assert page.input_value("#formula") == "MgO"
    assert page.locator("#only input").first.is_checked()


def test_empty_database_shows_first_command(serve, page):
    page.goto(serve())
    page.get_by_text("gan-htvs demo").wait_for()


@contextlib.contextmanager
def explored(site, port):
    """Serve the page of a site with `gan-htvs explore`, and end it with Ctrl-C."""
    server = subprocess.Popen(
        site.command("explore", "--port", str(port)),
        cwd=site.directory,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        assert address in server.stdout.readline()
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=60) == ("", "")
    assert server.returncode == 0


def test_page_follows_a_running_campaign(site_of, page, free_port):
    random = {"proposers": ["random"], "structures_per_composition": 3}
    site = site_of(SMALL_CAMPAIGN | {"sampling": random})
    run = site.start(workers=1)
    site.wait_for_outputs(run, 1)
    with explored(site, free_port()) as address:
        page.goto(f"{address}/campaigns")
        page.evaluate("window.isNotReloaded = true")
        headline = page.locator(".headline")
        running = re.compile(
            r"^mg-o running 1 job: [0-2] of 3 structures evaluated; [1-3] left, ETA "
        )
        playwright.expect(headline).to_have_text(running, timeout=60_000)
        workers = page.get_by_role("heading", name="Workers")
        playwright.expect(workers).to_be_visible()
        screenshot(page, "explorer-running")

        output, _ = run.communicate(timeout=TIMEOUT)
        assert run.returncode == 0, output
        playwright.expect(headline).to_have_text(
            "mg-o finished: 3 of 3 structures evaluated; none left", timeout=60_000
        )
        playwright.expect(workers).to_have_count(0)
        assert page.locator(".card progress").get_attribute("value") == "3"
        assert page.evaluate("window.isNotReloaded"), "the page was reloaded"
        page.get_by_role("link", name="mg-o").click()
        page.wait_for_selector("figure img >> nth=0")
        page.get_by_role("link", name="candidates of this campaign").click()
        page.wait_for_selector("#results tbody tr >> nth=2")
        page.goto("about:blank")
    assert site.leftovers() == []
