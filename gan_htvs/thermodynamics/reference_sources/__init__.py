"""Sources of reference phases besides the shipped ones.

* ``campaign_phases``: the reference phases of a campaign, from the source in campaign.yaml
* ``materials_project``, ``optimade``: fetched once from a database
* ``fetched_file``: the file in which fetched phases are kept, with their provenance
* ``own_files``: folders of structure files, and JSON files of structures or entries
"""
