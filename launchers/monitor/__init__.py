"""Diagnostics, monitoring and recovery.

* ``doctor``: checks of this machine; ``status``: state of campaigns
* ``recovery``, ``lost_runs``, ``failed_calculations``, ``gaps``: what failed, and repairing it
* ``findings``: the model that they share
"""
