"""What a worker finds in the environment of its batch job, as one line of JSON.

``gan-htvs queue check`` runs it as ``python -m launchers.queue.probe`` after ``environment.sh``.
"""

from __future__ import annotations

import json
import sys

from gan_htvs import __version__
from gan_htvs.core.errors import UserError


def main() -> None:
    """Print the versions and settings that a worker uses."""
    import jobflow  # noqa: PLC0415 - the import fails if the settings are wrong

    try:
        from fireworks import fw_config  # noqa: PLC0415 - the import fails if the settings are wrong
    except UserError as error:
        sys.exit(str(error))
    store = jobflow.SETTINGS.JOB_STORE.docs_store
    settings = {
        "python": sys.prefix,
        "version": __version__,
        "launchpad": fw_config.LAUNCHPAD_LOC,
        "expiration": fw_config.RUN_EXPIRATION_SECS,
        "outputs": getattr(store, "launchpad_file", f"a separate {type(store).__name__}"),
    }
    print(json.dumps(settings))  # noqa: T201


if __name__ == "__main__":
    main()
