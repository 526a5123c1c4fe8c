"""Interatomic potentials and the one relaxer.

* ``calculators``: ASE calculators by name; ``batches``: many structures at once
* ``relaxer``: one relaxation; ``relaxation``: many, each only once
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
