"""What all packages share: base models, typed documents, chemical systems, files and processes.

* ``candidate``: documents of a structure on its way through the funnel
* ``band_gap``, ``pourbaix_stability``, ``failure``: documents of single results
* ``chemical_system``, ``oxidation``: elements, compositions, oxidation states
* ``settings``, ``document``: base classes
* ``files``, ``processes``, ``errors``: working with the machine
"""
