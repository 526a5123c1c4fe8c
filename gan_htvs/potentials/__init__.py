"""Interatomic potentials and relaxations.

* ``calculators``: ASE calculators by name; ``batches``: batches of structures on one device
* ``relaxer``: one relaxation; ``relaxation``: many relaxations, with a cache
* ``corrections``: energy corrections and levels of theory
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calculators": ["calculator_of", "force_fields"],
        "relaxation": ["RelaxationCache", "Relaxations", "relax_many"],
        "relaxation_settings": ["PotentialSettings"],
        "relaxer": ["RelaxationResult", "relax"],
    },
)
