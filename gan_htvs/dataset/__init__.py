"""Training sets: sources, prototype decoration, relaxed structures, and arrays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "relaxed": ["RelaxedStructures", "relax_dataset"],
        "training_set": ["Dataset", "build_dataset"],
    },
)
