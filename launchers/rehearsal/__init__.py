"""A stand-in for VASP, and rehearsals of campaigns with it.

``python -m launchers.rehearsal`` replaces ``vasp_std`` in a folder with INCAR, POSCAR, POTCAR and
KPOINTS, to test workflows without node-hours. Its vasprun.xml names a program other than VASP, so
its numbers are not accepted as results.
"""
