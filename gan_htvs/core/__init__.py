"""Shared base models, typed documents, chemical systems, files and processes.

* ``candidate``: documents of a structure in the funnel, and of relaxations
* ``band_gap``, ``pourbaix_stability``, ``failure``: documents of single results
* ``chemical_system``, ``oxidation``: elements, compositions, oxidation states
* ``stages``: names of stages, jobs and screening steps
* ``settings``, ``document``: base classes
* ``files``, ``processes``, ``errors``: files, worker processes and error classes
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "band_gap": ["BandGapResult", "MagneticOrderingResult"],
        "candidate": [
            "Candidate",
            "Origin",
            "PrescreenVerdict",
            "Proposal",
            "RelaxationResult",
            "RelaxedStructure",
            "Screened",
            "Verdict",
        ],
        "chemical_system": ["ChemicalSystem"],
        "document": ["Document", "decode", "encode"],
        "errors": ["CalculationError", "UserError"],
        "failure": ["CalculationFailure"],
        "pourbaix_stability": ["PourbaixSettings", "PourbaixStability"],
        "settings": ["Settings"],
        "stages": ["ProposerName", "ScreeningStep", "Stage", "Step"],
    },
)
