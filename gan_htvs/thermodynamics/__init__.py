"""Reference phases, the convex hull and Pourbaix stability."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "assessment": ["assess", "decide"],
        "hull": ["ReferenceEnergy", "ReferenceSet"],
        "pourbaix": ["PourbaixAnalyzer"],
        "references": ["ReferencePhase", "reference_phases", "reference_set"],
    },
)
