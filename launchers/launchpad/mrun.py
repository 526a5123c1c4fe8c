"""The builders for maggma's own runner, which spreads them over processes and machines.

``mrun -n 8 launchers/launchpad/mrun.py``, in the folder of my_launchpad.yaml, whose database must
be running; ``GAN_HTVS_LAUNCHPAD`` names another file.
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
