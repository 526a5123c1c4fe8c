"""Screening with interatomic potentials before expensive calculations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "prescreen_settings": ["PrescreenSettings"],
        "screening": ["Prescreen", "select"],
        "stopping": ["StoppingRule"],
    },
)
