"""What `gan-htvs status` says, and its exit code."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from launchers.monitor.status import table

from .conftest import (
    CAMPAIGN,
    RAISES,
    REFERENCES,
    firework,
    gate,
)


def test_a_campaign_stands_still_when_all_that_is_left_waits_for_a_failure(site):
    site.register()
    references = firework("references", RAISES, owner=REFERENCES)
    site.queue(references, firework("gate", parents=[references]))
    result = site.call()
    assert result.exit_code == 0, result.output
    assert "waits for workers" in result.output
    site.run()
    result = site.call()
    assert result.exit_code == 1
    assert "stands still" in result.output
    assert "ETA" not in result.output
    assert "ValueError: math domain error" in result.output
    assert "waits for 1 job that FIZZLED" in result.output
    assert "gan-htvs retry" in result.output


def test_what_is_judged_is_finished_whatever_failed_on_the_way(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(12)))
    site.queue(firework("relax", RAISES))
    site.run()
    result = site.call("mg-o")
    assert result.exit_code == 0
    assert "finished" in result.output


def test_the_document_tells_all_campaigns(site):
    site.register()
    site.register(CAMPAIGN.model_copy(update={"name": "second"}))
    site.queue(firework("relax"))
    result = site.call("--json")
    document = json.loads(result.stdout)
    assert [each["name"] for each in document["campaigns"]] == ["mg-o", "second"]
    assert document["campaigns"][0]["jobs"][0]["n"] == 1
    assert document["campaigns"][1]["is_stuck"]
    assert result.exit_code == 1


@pytest.mark.parametrize(("arguments", "lines"), [([], 2), (["--json"], 2)])
def test_watching_tells_a_line_a_look_until_ctrl_c(site, monkeypatch, arguments, lines):
    site.register()
    naps = iter([None])

    def sleep(seconds):
        if next(naps, "stop") == "stop":
            raise KeyboardInterrupt

    monkeypatch.setattr(table, "time", SimpleNamespace(sleep=sleep))
    result = site.call("--watch", *arguments)
    assert result.exit_code == 0
    assert result.output.count("mg-o") == lines


def test_a_database_without_the_campaign_says_what_it_has(site):
    result = site.call()
    assert result.exit_code == 2
    assert "holds no campaign" in result.output
    site.register()
    result = site.call("nobody")
    assert result.exit_code == 2
    assert "mg-o" in result.output
