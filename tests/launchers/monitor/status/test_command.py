"""Output and exit code of `gan-htvs status`."""

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


def test_campaign_is_stuck_when_remaining_jobs_wait_for_a_failed_job(site):
    site.register()
    references = firework("references", RAISES, owner=REFERENCES)
    site.queue(references, firework("gate", parents=[references]))
    result = site.call()
    assert result.exit_code == 0, result.output
    site.run()
    result = site.call()
    assert result.exit_code == 1
    assert "stuck" in result.output
    assert "ValueError: math domain error" in result.output
    assert "gan-htvs retry" in result.output


def test_campaign_with_all_verdicts_is_finished_despite_failed_jobs(site):
    site.register()
    site.put("outputs", *(gate(str(n)) for n in range(12)))
    site.queue(firework("relax", RAISES))
    site.run()
    result = site.call("mg-o")
    assert result.exit_code == 0
    assert "finished" in result.output


def test_json_document_has_all_campaigns(site):
    site.register()
    site.register(CAMPAIGN.model_copy(update={"name": "second"}))
    site.queue(firework("relax"))
    result = site.call("--json")
    document = json.loads(result.stdout)
    assert [campaign["name"] for campaign in document["campaigns"]] == ["mg-o", "second"]
    assert document["campaigns"][0]["jobs"][0]["n"] == 1
    assert document["campaigns"][1]["is_stuck"]
    assert result.exit_code == 1


@pytest.mark.parametrize(("arguments", "lines"), [([], 2), (["--json"], 2)])
def test_watch_prints_one_line_per_poll_until_ctrl_c(site, monkeypatch, arguments, lines):
    site.register()
    pauses = iter([None])

    def sleep(seconds):
        if next(pauses, "stop") == "stop":
            raise KeyboardInterrupt

    monkeypatch.setattr(table, "time", SimpleNamespace(sleep=sleep))
    result = site.call("--watch", *arguments)
    assert result.exit_code == 0
    assert result.output.count("mg-o") == lines


def test_unknown_campaign_is_a_user_error(site):
    result = site.call()
    assert result.exit_code == 2
    site.register()
    result = site.call("unknown")
    assert result.exit_code == 2
    assert "mg-o" in result.output
