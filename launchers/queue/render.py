"""The files that batch systems, FireWorks, jobflow and atomate2 read on a cluster."""

from __future__ import annotations

import os
import shlex
import string
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gan_htvs.errors import UserError
from gan_htvs.files import writing
from launchers.batch import BatchSystem
from launchers.queue.dialects import adapter_keys
from launchers.queue.profiles import clock_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gan_htvs.routing import Category
    from launchers.queue.dialects import Dialect
    from launchers.queue.profiles import Profile

PING_SECONDS = 300
"""A job says so often that it is alive; FireWorks' default is an hour."""

MISSED_PINGS = 4
"""After so many a run counts as lost."""

QSTAT_SECONDS = 60
"""What a busy batch system may take to answer; FireWorks' default is 5 s."""

SUBMIT_SECONDS = 1
"""``qlaunch`` sleeps so long after a submission, which it counts whatever the queue shows."""

ROUND_SECONDS = 300
"""``qlaunch`` ends when nothing of its category is ready, and comes back after so long."""

IDLE_SECONDS = 30
IDLE_LOOPS = 20
"""A worker that finds nothing sleeps and looks again, so often in all; then its node goes back."""

ENVIRONMENT, FIREWORKS, JOBFLOW, ATOMATE2, README = (
    "environment.sh",
    "FW_config.yaml",
    "jobflow.yaml",
    "atomate2.yaml",
    "README.md",
)
FWORKER, QADAPTER = "my_fworker.yaml", "my_qadapter.yaml"


class _Text(string.Template):
    """Text with ``@name`` in it, since shells have their own use for ``$``."""

    delimiter = "@"


@dataclass(frozen=True)
class QueueFiles:
    """All files of one folder.

    Parameters
    ----------
    folder
        Where they go, absolute and seen by all nodes.
    dialect
        Of the batch system.
    profiles
        What batch jobs of each category ask for.
    launchpad_file
        Names the database.
    workdir
        Where ``qlaunch`` makes the directories of jobs.
    scratch
        Where an interrupted training leaves its state.
    """

    folder: Path
    dialect: Dialect
    profiles: Mapping[Category, Profile]
    launchpad_file: Path
    workdir: Path
    scratch: Path

    def texts(self) -> dict[Path, str]:
        """Render every file."""
        texts = {
            ENVIRONMENT: self._environment(),
            FIREWORKS: _yaml(self._fireworks()),
            JOBFLOW: _yaml(self._jobflow()),
            ATOMATE2: _yaml(self._atomate2()),
            README: self._readme(),
            self.dialect.template: _template(self.dialect.template),
        }
        for category, profile in self.profiles.items():
            texts[f"{category}/{FWORKER}"] = _yaml(_fworker(category))
            texts[f"{category}/{QADAPTER}"] = _yaml(self._qadapter(profile))
        return {self.folder / name: text for name, text in texts.items()}

    def _environment(self) -> str:
        python_path = os.environ.get("PYTHONPATH")
        return _Text(_template(ENVIRONMENT)).substitute(
            bin=_quoted(Path(sys.executable).parent),
            python_path=f"export PYTHONPATH={shlex.quote(python_path)}\n" if python_path else "",
            fireworks=_quoted(self.folder / FIREWORKS),
            jobflow=_quoted(self.folder / JOBFLOW),
            atomate2=_quoted(self.folder / ATOMATE2),
            scratch=_quoted(self.scratch),
        )

    def _fireworks(self) -> dict[str, Any]:
        return {
            "LAUNCHPAD_LOC": str(self.launchpad_file),
            "PING_TIME_SECS": PING_SECONDS,
            "RUN_EXPIRATION_SECS": PING_SECONDS * MISSED_PINGS,
            "QUEUE_UPDATE_INTERVAL": SUBMIT_SECONDS,
        }

    def _jobflow(self) -> dict[str, Any]:
        def store(name: str) -> dict[str, str]:
            where = {"launchpad_file": str(self.launchpad_file)}
            return {"@module": "launchers.stores", "@class": name} | where

        return {
            "JOB_STORE": {
                "@module": "jobflow.core.store",
                "@class": "JobStore",
                "docs_store": store("OutputStore"),
                "additional_stores": {"data": store("BlobStore")},
            }
        }

    def _atomate2(self) -> dict[str, str]:
        programs = {
            "VASP_CMD": "vasp_std",
            "VASP_GAMMA_CMD": "vasp_gam",
            "VASP_NCL_CMD": "vasp_ncl",
        }
        return {
            name: f"{self.dialect.mpi} $GAN_HTVS_RANKS {program}"
            for name, program in programs.items()
        }

    def _qadapter(self, profile: Profile) -> dict[str, Any]:
        return {
            "_fw_name": "CommonAdapter",
            "_fw_q_type": self.dialect.name,
            "_fw_template_file": str(self.folder / self.dialect.template),
            "_fw_timeout": QSTAT_SECONDS,
            **adapter_keys(self.dialect, profile),
            "pre_rocket": (
                f"source {_quoted(self.folder / ENVIRONMENT)} && "
                f"export OMP_NUM_THREADS={profile.threads} GAN_HTVS_RANKS={profile.ranks} "
                f"GAN_HTVS_CORES={profile.cores_each} || exit 1"
            ),
            "rocket_launch": self._rocket_launch(profile),
        }

    def _rocket_launch(self, profile: Profile) -> str:
        mode = ["rapidfire"] if profile.tasks == 1 else ["multi", str(profile.tasks)]
        bounds = {
            "--nlaunches": "infinite",
            "--sleep": IDLE_SECONDS,
            "--max_loops": IDLE_LOOPS,
            "--timeout": profile.starting_seconds,
        }
        return shlex.join(
            [
                *_gan_htvs(),
                *("rlaunch", "-l", str(self.launchpad_file)),
                *("-w", str(self.folder / profile.category / FWORKER)),
                *mode,
                *(str(word) for option in bounds.items() for word in option),
            ]
        )

    def _readme(self) -> str:
        return _Text(_template(README)).substitute(
            scheduler=self.dialect.name,
            folder=_quoted(self.folder),
            template=self.dialect.template,
            environment=_quoted(self.folder / ENVIRONMENT),
            launchpad=_quoted(self.launchpad_file),
            commands="\n".join(f"    {command}" for command in self.commands()),
            profiles="\n".join(map(_row, self.profiles.values())),
            password=_PASSWORD[self.dialect.system],
        )

    def commands(self) -> Iterator[str]:
        """Write the command that submits the batch jobs of each category."""
        where = ["-l", str(self.launchpad_file), "--launch_dir", str(self.workdir)]
        for category in self.profiles:
            words = ["gan-htvs", "qlaunch", "-d", str(ROUND_SECONDS)]
            words += ["-c", str(self.folder / category), *where]
            yield shlex.join([*words, "rapidfire", "-m", "10", "--nlaunches", "0"])


_HIDDEN = (
    ". The\nscripts do not hand on the environment (`-V`), which `qstat` would show to everybody."
)
_PASSWORD = {
    BatchSystem.SLURM: (
        ", or in the\nvariable GAN_HTVS_MONGO_PASSWORD of the shell that calls `qlaunch`, which "
        "`sbatch` hands on."
    ),
    BatchSystem.PBS: _HIDDEN,
    BatchSystem.SGE: _HIDDEN,
}


def write(texts: Mapping[Path, str], *, force: bool = False) -> list[Path]:
    """Write what is not there yet, readable by its owner only, and return which files that were.

    Raises
    ------
    UserError
        If there are other files of these names, unless ``force``: they may have been edited.
    """
    there = {path: path.read_text(encoding="utf-8") for path in texts if path.is_file()}
    edited = [path for path, text in there.items() if text != texts[path]]
    if edited and not force:
        raise UserError(
            f"{', '.join(map(str, edited))}: not what would be written now, so nothing was "
            "written; --force overwrites, another folder leaves it."
        )
    changed = [path for path, text in texts.items() if there.get(path) != text]
    for path in changed:
        make_folder(path.parent)
        with writing(path):
            path.touch(mode=0o600)
            path.chmod(0o600)
            path.write_text(texts[path], encoding="utf-8")
    return changed


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there.

    Raises
    ------
    UserError
        If that is impossible.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _fworker(category: Category) -> dict[str, Any]:
    return {"name": f"gan-htvs {category}", "category": str(category), "query": "{}", "env": {}}


def _gan_htvs() -> list[str]:
    script = Path(sys.executable).with_name("gan-htvs")
    return [str(script)] if script.exists() else [sys.executable, "-m", "launchers.cli"]


def _row(profile: Profile) -> str:
    nodes = f"{profile.nodes} node{'s' if profile.nodes > 1 else ''}, {profile.cores} cores"
    gpus = f", {profile.gpus} GPU{'s' if profile.gpus > 1 else ''}" if profile.gpus else ""
    copies = f", an array of {profile.array}" if profile.array > 1 else ""
    mpi = f" with {profile.ranks} MPI processes" if profile.ranks > 1 else ""
    return (
        f"| {profile.category} | {nodes}{gpus} for {clock_of(profile.walltime)}{copies} "
        f"| {profile.tasks}{mpi} | after {clock_of(profile.starting_seconds)} |"
    )


def _template(name: str) -> str:
    return (resources.files("launchers.templates") / "queue" / name).read_text(encoding="utf-8")


def _yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=1000)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
