"""Diagnostics, monitoring and recovery.

* ``doctor``: checks of this machine; ``status``: state of campaigns
* ``recovery``, ``lost_runs``: lost jobs and their repair
* ``failed_calculations``, ``gaps``: failed calculations and missing band gaps, and their retry
* ``history``: the provenance of a candidate
* ``findings``: the model of all checks
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "findings": ["Finding", "Severity"],
        "history": ["read_history"],
        "recovery": ["Recovery"],
    },
)
