"""Databases of my_launchpad.yaml, with their campaigns and jobs.

* ``launchpad_file``, ``mongo_uri``, ``database``: the launchpad file and its connections
* ``embedded``: the embedded server
* ``registry``, ``units``, ``feeder``: campaigns and their workflows
* ``jobs``, ``workers``, ``batch_system``, ``locks``: queued jobs and the processes that run them
"""
