"""A stand-in for VASP: the files of a real calculation, with numbers that are no results.

Run as ``python -m gan_htvs.rehearsal`` in a folder with INCAR, POSCAR, POTCAR and KPOINTS, it takes
the place of ``vasp_std``, so that whatever surrounds VASP can be tried before node-hours are spent.
"""
