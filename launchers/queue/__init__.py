"""Write and check the files that batch systems need, and submit campaigns to them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "estimate": ["Estimate"],
        "scripts": ["lpad", "qlaunch", "rlaunch"],
        "submission": ["Submission", "submit_campaign"],
    },
)
