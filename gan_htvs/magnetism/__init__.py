"""Initial moments, magnetic orderings, and k-point meshes that keep their symmetry."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "initial_moments": ["magnetic_starts"],
        "kpoints": ["kpoint_mesh"],
        "magnetic_orderings": ["antiferromagnetic_orderings"],
    },
)
