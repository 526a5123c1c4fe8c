from __future__ import annotations

from pathlib import Path

import yaml

from gan_htvs.campaign.model import Campaign
from gan_htvs.prescreen.prescreen_settings import PrescreenSettings
from launchers.cli.settings_reference import as_markdown, settings_of

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "campaign.md"
TEMPLATE = ROOT / "launchers" / "cli" / "templates" / "mg-mn-o.yaml"


def test_every_setting_says_what_it_means():
    assert [setting.key for setting in settings_of(Campaign) if not setting.description] == []


def test_the_page_about_settings_is_up_to_date():
    assert as_markdown(settings_of(Campaign)) in PAGE.read_text()


def test_a_section_that_may_be_null_is_told_with_its_keys():
    found = {setting.key: setting for setting in settings_of(Campaign)}
    assert "null: all structures are evaluated" in found["prescreen"].description
    assert found["prescreen.audit"].default == "0.1"


def test_the_commented_section_of_the_template_has_the_defaults():
    text = TEMPLATE.read_text()
    _, _, section = text.partition("# prescreen:\n")
    section, _, _ = section.partition("\n\n")
    shown = yaml.safe_load("\n".join(line.removeprefix("#") for line in section.splitlines()))
    campaign = Campaign.model_validate(yaml.safe_load(text))
    assert campaign.prescreen == PrescreenSettings()
    named = PrescreenSettings(**shown)
    for potentials in (PrescreenSettings.relaxing, PrescreenSettings.confirming):
        assert potentials(named, campaign.engines) == potentials(
            campaign.prescreen, campaign.engines
        )
    assert named.window == campaign.thresholds.metastable
    assert (named.recall, named.audit) == (campaign.prescreen.recall, campaign.prescreen.audit)
