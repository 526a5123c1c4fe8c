"""A campaign: the model of campaign.yaml, its files, and settings of the engines.

* ``model``: the settings of one search
* ``campaign_file``: reading and checking campaign.yaml
* ``stored_campaign``: campaigns as databases keep them
* ``engines``: energies and band gaps; ``routing``: kinds of node
"""
