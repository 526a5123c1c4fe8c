"""A campaign: the model of campaign.yaml, its files, and settings of the engines.

* ``model``: the settings of one search
* ``campaign_file``: reading and checking campaign.yaml
* ``stored_campaign``: campaigns as databases keep them
* ``engines``: energies and band gaps; ``routing``: kinds of node
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "campaign_file": ["parse_campaign", "read_campaign"],
        "engines": ["EngineSettings"],
        "model": ["Campaign", "Thresholds"],
        "routing": ["Category", "RoutingSettings"],
    },
)
