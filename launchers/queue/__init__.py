"""Files for batch systems: what `gan-htvs queue` renders and checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "estimate": ["Estimate"],
        "scripts": ["lpad", "qlaunch", "rlaunch"],
        "submission": ["submit_campaign"],
    },
)
