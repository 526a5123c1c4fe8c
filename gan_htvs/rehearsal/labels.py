"""What everything written says about itself."""

from __future__ import annotations

VERSION = "6.4.3"
"""Version of VASP whose files are imitated."""

NOTICE = "gan-htvs rehearsal: a stand-in for VASP wrote this, and no number here is a result"
