"""Diagnostics, monitoring and recovery.

* ``doctor``: checks of this machine; ``status``: state of campaigns
* ``recovery``, ``lost_runs``, ``failed_calculations``, ``gaps``: what failed, and repairing it
* ``findings``: the model that they share
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
