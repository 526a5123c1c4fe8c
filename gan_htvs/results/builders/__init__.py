"""maggma builders that turn job outputs into candidates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "candidates": ["CandidateBuilder"],
        "optimade": ["OptimadeBuilder"],
        "stability": ["StabilityBuilder"],
    },
)
