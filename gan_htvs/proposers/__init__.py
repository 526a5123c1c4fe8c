"""Proposers of structures: the generator and the baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "proposer": ["Proposer", "make_proposer"],
        "sampling": ["sample"],
    },
)
