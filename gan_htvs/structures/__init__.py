"""Crystal structures: encoding, validity, overlap removal, symmetry and comparison.

* ``point_cloud``: the images that the networks read and write
* ``validity``, ``declash``: geometry checks and overlap removal
* ``matching``, ``fingerprint``, ``crystals``: which structures are the same crystal
* ``symmetry``, ``superlattices``, ``random_crystals``: space groups
"""
