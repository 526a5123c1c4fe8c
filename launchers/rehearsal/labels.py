"""Labels that identify output of the stand-in."""

from __future__ import annotations

PROGRAM = "vasp-stand-in"
"""Name of the program in vasprun.xml, where VASP writes ``vasp``."""

VERSION = "6.4.3"
"""Version of VASP whose files are imitated."""

NOTICE = "gan-htvs rehearsal: written by a stand-in for VASP; the numbers are not results"
