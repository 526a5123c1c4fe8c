"""Databases of my_launchpad.yaml, with their campaigns and jobs.

* ``launchpad_file``, ``mongo_uri``, ``database``: the launchpad file and its connections
* ``embedded``: the embedded server
* ``registry``, ``units``, ``feeder``: campaigns and their workflows
* ``jobs``, ``workers``, ``batch_system``, ``locks``: queued jobs and the processes that run them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "database": ["Databases", "open_databases"],
        "embedded": ["EmbeddedServer"],
        "feeder": ["Feeder"],
        "jobs": ["CampaignLaunchPad", "QueuedJob"],
        "launchpad_file": ["LaunchpadFile"],
        "units": ["CampaignUnits"],
    },
)
