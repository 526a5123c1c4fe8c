"""Render the files that batch systems, FireWorks, jobflow and atomate2 read on a cluster."""

from __future__ import annotations

import os
import shlex
import string
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import report_write_errors, write_atomically
from gan_htvs.core.yaml_text import yaml_text
from launchers.queue.profiles import DIALECTS, clock_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gan_htvs.campaign.routing import Category
    from launchers.launchpad.batch_system import BatchSystem
    from launchers.queue.profiles import Profile

QSTAT_SECONDS = 60
"""Longest time that a busy batch system may take to answer; FireWorks' default is 5 s."""

ROUND_SECONDS = 300
"""Interval of ``qlaunch -d``, which submits again after no job of its category was ready."""

IDLE_SECONDS = 30
"""Time that a worker without a job sleeps before it looks for one again."""

IDLE_LOOPS = 20
"""Number of sleeps after which a worker without a job ends and releases its node."""

ENVIRONMENT, FIREWORKS = "environment.sh", "FW_config.yaml"
FILES = (ENVIRONMENT, "README.md", FIREWORKS, "jobflow.yaml", "atomate2.yaml")
FWORKER, QADAPTER = "my_fworker.yaml", "my_qadapter.yaml"


class _Template(string.Template):
    """Text with ``@name`` placeholders, because ``$`` is used by shells."""

    delimiter = "@"


def render(
    folder: Path,
    system: BatchSystem,
    profiles: Mapping[Category, Profile],
    *,
    launchpad_file: Path,
    workdir: Path,
    scratch: Path,
) -> dict[Path, str]:
    """Render all files of a folder.

    Parameters
    ----------
    folder
        Folder of the files, absolute and visible on all nodes.
    system
        The batch system.
    profiles
        Resources of the batch jobs of each category.
    launchpad_file
        The file that names the database.
    workdir
        Folder in which ``qlaunch`` creates the directories of jobs.
    scratch
        Folder for the state of interrupted trainings.

    Returns
    -------
    dict
        Path -> text.
    """
    # FireWorks' templates support neither job arrays, PBS chunks, SGE slots nor spaces in paths.
    template = f"{system}.txt"
    python_path = os.environ.get("PYTHONPATH")
    paths = {
        "bin": Path(sys.executable).parent,
        "folder": folder,
        "scratch": scratch,
        "launchpad": launchpad_file,
    }
    values = {name: shlex.quote(str(path)) for name, path in paths.items()} | {
        "launchpad_yaml": yaml_text(str(launchpad_file), width=sys.maxsize).splitlines()[0],
        "mpi": DIALECTS[system].mpi,
        "python_path": f"export PYTHONPATH={shlex.quote(python_path)}\n" if python_path else "",
        "scheduler": system.upper(),
        "template": template,
        "commands": "\n".join(
            _qlaunch(folder / category, launchpad_file, workdir) for category in profiles
        ),
        "profiles": "\n".join(map(_row, profiles.values())),
    }
    texts = {name: _filled(name, values) for name in (*FILES, template)}
    for category, profile in profiles.items():
        texts[f"{category}/{FWORKER}"] = _filled(FWORKER, {"category": str(category)})
        adapter = {
            "_fw_name": "CommonAdapter",
            "_fw_q_type": system.upper(),
            "_fw_template_file": str(folder / template),
            "_fw_timeout": QSTAT_SECONDS,
            **profile.adapter_keys(system),
            "pre_rocket": (
                f"source {values['folder']}/{ENVIRONMENT} && "
                f"export OMP_NUM_THREADS={profile.threads} GAN_HTVS_RANKS={profile.ranks} "
                f"GAN_HTVS_CORES={profile.cores_per_worker} || exit 1"
            ),
            "rocket_launch": _rlaunch(folder / category / FWORKER, launchpad_file, profile),
        }
        texts[f"{category}/{QADAPTER}"] = yaml_text(adapter, width=1000)
    return {folder / name: text for name, text in texts.items()}


def _rlaunch(fworker: Path, launchpad_file: Path, profile: Profile) -> str:
    """Return the command that starts the workers of a batch job."""
    script = Path(sys.executable).with_name("gan-htvs")
    module = [sys.executable, "-m", "launchers.cli.main"]
    words = [
        *([script] if script.exists() else module),
        *("rlaunch", "-l", launchpad_file, "-w", fworker),
        *(["rapidfire"] if profile.tasks == 1 else ["multi", profile.tasks]),
        *("--nlaunches", "infinite", "--sleep", IDLE_SECONDS, "--max_loops", IDLE_LOOPS),
        *("--timeout", profile.starting_seconds),
    ]
    return shlex.join(map(str, words))


def _qlaunch(folder: Path, launchpad_file: Path, workdir: Path) -> str:
    """Return the command that submits the batch jobs of a category."""
    words = ["gan-htvs", "qlaunch", "-d", ROUND_SECONDS, "-c", folder, "-l", launchpad_file]
    words += ["--launch_dir", workdir, "rapidfire", "-m", 10, "--nlaunches", 0]
    return f"    {shlex.join(map(str, words))}"


def _row(profile: Profile) -> str:
    cells = (
        profile.category,
        profile.nodes,
        f"{profile.cores}, {profile.gpus}",
        clock_of(profile.walltime),
        profile.array,
        profile.tasks,
        profile.ranks,
        clock_of(profile.starting_seconds),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _filled(name: str, values: Mapping[str, str]) -> str:
    path = resources.files("launchers.queue") / "templates" / name
    return _Template(path.read_text(encoding="utf-8")).substitute(values)


def write(texts: Mapping[Path, str], *, force: bool = False) -> list[Path]:
    """Write the files that are missing, readable by their owner only, and return them.

    Raises
    ------
    UserError
        If a file exists with other content, which may be an edit by the user, unless ``force``.
    """
    present = {path: path.read_text(encoding="utf-8") for path in texts if path.is_file()}
    edited = [path for path, text in present.items() if text != texts[path]]
    if edited and not force:
        raise UserError(
            f"{', '.join(map(str, edited))}: exists with other content, and nothing was written; "
            "use --force to overwrite, or choose another folder."
        )
    changed = [path for path, text in texts.items() if present.get(path) != text]
    for path in changed:
        write_atomically(path, texts[path].encode())
        path.chmod(0o600)
    return changed


def make_folder(folder: Path) -> None:
    """Create a folder unless it exists.

    Raises
    ------
    UserError
        If it cannot be created.
    """
    with report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
