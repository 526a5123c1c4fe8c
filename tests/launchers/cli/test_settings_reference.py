from __future__ import annotations

from pathlib import Path

import yaml

from gan_htvs.campaign.model import Campaign
from gan_htvs.prescreen.prescreen_settings import PrescreenSettings
from launchers.cli.settings_reference import as_markdown, settings_of

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "campaign.md"
TEMPLATE = ROOT / "launchers" / "cli" / "templates" / "mg-mn-o.yaml"


def test_every_setting_has_a_description():
    assert [setting.key for setting in settings_of(Campaign) if not setting.description] == []


def test_settings_page_is_up_to_date():
    assert as_markdown(settings_of(Campaign)) in PAGE.read_text()


def test_optional_section_is_listed_with_its_keys():
    reference = {setting.key: setting for setting in settings_of(Campaign)}
    assert reference["prescreen"].description
    assert reference["prescreen.audit"].default == "0.1"


def test_commented_section_of_the_template_has_the_defaults():
    text = TEMPLATE.read_text()
    _, _, section = text.partition("# prescreen:\n")
    section, _, _ = section.partition("\n\n")
    settings = yaml.safe_load("\n".join(line.removeprefix("#") for line in section.splitlines()))
    campaign = Campaign.model_validate(yaml.safe_load(text))
    assert campaign.prescreen == PrescreenSettings()
    commented = PrescreenSettings(**settings)
    for potentials in (PrescreenSettings.relaxing, PrescreenSettings.confirming):
        assert potentials(commented, campaign.engines) == potentials(
            campaign.prescreen, campaign.engines
        )
    assert commented.window == campaign.prescreen_window
    assert commented.recall == campaign.prescreen.recall
    assert commented.audit == campaign.prescreen.audit
