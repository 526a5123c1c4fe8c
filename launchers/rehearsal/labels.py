"""Labels that mark all output of the stand-in."""

from __future__ import annotations

PROGRAM = "vasp-stand-in"
"""Name of the program in vasprun.xml, where VASP writes ``vasp``."""

VERSION = "6.4.3"
"""Version of VASP whose files are imitated."""

NOTICE = "gan-htvs rehearsal: a stand-in for VASP wrote this, and no number here is a result"
