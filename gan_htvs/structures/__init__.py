"""Crystal structures: encoding, validity, overlap removal, symmetry and comparison.

* ``point_cloud``: images, the input and output of the networks
* ``geometry_limits``: volumes and distances that follow from the elements
* ``validity``, ``declash``: geometry checks and overlap removal
* ``matching``, ``fingerprint``, ``crystals``: comparison of structures
* ``structure_files``, ``structure_formats``: folders and files in any format
* ``cif``, ``cif_syntax``, ``poscar``: crystals of one format, compared with what the file states
* ``symmetry``, ``superlattices``, ``random_crystals``: space groups
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fingerprint": ["Fingerprint"],
        "geometry_limits": ["GeometryLimits"],
        "matching": ["StructureIndex", "UniqueStructures", "structure_matcher", "unique_indices"],
        "point_cloud": ["decode", "encode"],
        "random_crystals": ["symmetric_crystals"],
        "symmetry": ["primitive_crystal", "symmetrize"],
        "validity": ["RejectionReason", "check_geometry"],
    },
)
