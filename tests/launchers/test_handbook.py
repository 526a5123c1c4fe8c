from __future__ import annotations

from pathlib import Path

from gan_htvs.campaign import Campaign
from launchers.handbook import as_markdown, settings_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "campaign.md"


def test_every_setting_says_what_it_means():
    assert [setting.key for setting in settings_of(Campaign) if not setting.description] == []


def test_the_page_about_settings_is_up_to_date():
    assert as_markdown(settings_of(Campaign)) in PAGE.read_text()
