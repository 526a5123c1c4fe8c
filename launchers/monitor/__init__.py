"""Diagnostics, monitoring and recovery.

* ``doctor``: checks of this machine; ``status``: state of campaigns
* ``recovery``, ``lost_runs``: lost jobs and their repair
* ``failed_calculations``, ``gaps``: failed calculations and missing band gaps, and their retry
* ``history``: the provenance of a candidate
* ``findings``: the model of all checks
"""
