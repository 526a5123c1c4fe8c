"""The databases of my_launchpad.yaml, and the campaigns and jobs in them.

* ``launchpad_file``, ``database``: the launchpad file and its connections
* ``embedded``: the embedded server
* ``registry``, ``units``, ``feeder``: campaigns and their workflows
* ``jobs``: queued jobs
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
