"""A stand-in for VASP, and rehearsals of campaigns with it.

``python -m launchers.rehearsal`` replaces ``vasp_std`` in a folder with INCAR, POSCAR, POTCAR and
KPOINTS, so that workflows can be tested without node-hours. Its vasprun.xml names another program
than VASP, so that its numbers are not accepted as results.
"""
