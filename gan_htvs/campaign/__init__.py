"""Campaigns: the model of campaign.yaml, reading of the file, and settings of the engines.

* ``model``: the settings of a campaign
* ``campaign_file``: reading and validation of campaign.yaml
* ``stored_campaign``: reading of campaigns from a database
* ``engines``: settings of energies and band gaps; ``routing``: worker categories
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "campaign_file": ["parse_campaign", "read_campaign"],
        "engines": ["EngineSettings"],
        "model": ["Campaign"],
        "routing": ["Category", "RoutingSettings"],
    },
)
