"""Builders for maggma's ``mrun``, which distributes them over processes and machines.

Run ``mrun -n 8 launchers/launchpad/mrun.py`` in the folder of my_launchpad.yaml, or set
``GAN_HTVS_LAUNCHPAD`` to the path of this file. The database must be running.
"""

from __future__ import annotations

import os
from pathlib import Path

from launchers.launchpad.foreign_settings import set_aside_jobflow_settings

set_aside_jobflow_settings()  # before the next lines import jobflow

from launchers.launchpad.builders import builders  # noqa: E402
from launchers.launchpad.database import Databases  # noqa: E402

launchpad_file = Path(os.environ.get("GAN_HTVS_LAUNCHPAD", "my_launchpad.yaml"))
__builders__ = list(builders(Databases.read(launchpad_file)))
