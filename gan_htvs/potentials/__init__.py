"""Interatomic potentials and the one relaxer.

* ``calculators``: ASE calculators by name; ``batches``: many structures at once
* ``relaxer``: one relaxation; ``relaxation``: many, each only once
* ``corrections``: energy corrections and levels of theory
"""
