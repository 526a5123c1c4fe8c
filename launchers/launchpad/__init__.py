"""The databases of my_launchpad.yaml, and the campaigns and jobs in them.

* ``launchpad_file``, ``database``: the launchpad file and its connections
* ``embedded``: the embedded server
* ``registry``, ``units``, ``feeder``: campaigns and their workflows
* ``jobs``: queued jobs
"""
