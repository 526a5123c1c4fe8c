"""A private SLURM cluster: munged, slurmctld and slurmd as processes in one folder."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
START_TIMEOUT = 60
STOP_TIMEOUT = 20
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

# One node with more resources than the machine; no systemd, cgroups or accounting.
CONFIGURATION = """\
ClusterName=test{pid}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
InactiveLimit=0
KillWait=5
OverTimeLimit=0
MinJobAge=600
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=256000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


class SlurmUnavailableError(Exception):
    """SLURM is not installed, or does not start on this machine."""


class Slurm:
    """A SLURM cluster of one node on loopback, with the partitions ``gpu`` and ``cpu``.

    As a context manager it ends all processes that it started, and no others.
    """

    def __init__(self, folder, free_port):
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.configuration = folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.configuration)}
        self._ports = {"ctld_port": free_port(), "d_port": free_port()}
        self._daemons = []

    def __enter__(self):
        """Start the daemons, and return when the cluster accepts jobs."""
        missing = [name for name in PROGRAMS if not shutil.which(name, path=SYSTEM_PATH)]
        if missing:
            raise SlurmUnavailableError(f"no {', '.join(missing)}; tools/slurm.sh installs them")
        self._configure()
        try:
            self._start_daemons()
        except SlurmUnavailableError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """End the jobs, then the daemons in reverse order."""
        if self._accepts_jobs():
            with suppress(subprocess.SubprocessError, TimeoutError):
                self.call("scancel", "--user", getpass.getuser())
                self.wait_until(lambda: not self.jobs(), "jobs end", STOP_TIMEOUT)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(STOP_TIMEOUT)
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def call(self, *command):
        """Run a command of SLURM and return its output."""
        return subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout

    def jobs(self, *partitions):
        """Return the state of each queued or running job by its id."""
        options = ["--partition", ",".join(partitions)] if partitions else []
        rows = self.call("squeue", "--noheader", "--format", "%i %T", *options).splitlines()
        return dict(row.split() for row in rows)

    def state(self, job):
        """Return the state of a job, including finished ones."""
        shown = self.call("scontrol", "show", "job", "--oneliner", job)
        return dict(part.split("=", 1) for part in shown.split() if "=" in part)["JobState"]

    def wait_until(self, condition, description, timeout):
        """Wait until a condition holds; raise TimeoutError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{description}: not within {timeout} s; jobs: {self.jobs()}")
            time.sleep(0.2)

    def processes(self):
        """Return the processes with its configuration or a working directory in its folder."""
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                has_configuration = process.environ().get("SLURM_CONF") == str(self.configuration)
                is_in_folder = Path(process.cwd()).is_relative_to(self.folder)
                if process.pid != os.getpid() and (has_configuration or is_in_folder):
                    processes.append(process)
        return processes

    def _configure(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self.configuration.write_text(
            CONFIGURATION.format(
                pid=os.getpid(),
                host=self.host,
                user=getpass.getuser(),
                folder=self.folder,
                **self._ports,
            )
        )
        gres = f"NodeName={self.host} Name=gpu File=/dev/null\n"
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def _start_daemons(self):
        socket_file = self.folder / "munge.sock"
        munge = [f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")]
        key = f"--key-file={self.folder / 'munge.key'}"
        self._start("munged", "--foreground", "--force", f"--socket={socket_file}", key, *munge)
        self._wait_for_daemons(socket_file.exists)
        self._start("slurmctld", "-D", "-i", "-f", str(self.configuration))
        self._start("slurmd", "-D", "-f", str(self.configuration), "-N", self.host)
        self._wait_for_daemons(self._accepts_jobs)

    def _start(self, program, *arguments):
        with (self.folder / f"{program}.out").open("w") as output:
            daemon = subprocess.Popen(
                [shutil.which(program, path=SYSTEM_PATH), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=os.environ | self.environment,
            )
        self._daemons.append(daemon)

    def _wait_for_daemons(self, condition):
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            ended = [daemon for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                program = Path((ended or self._daemons)[-1].args[0]).name
                lines = (self.folder / f"{program}.out").read_text().splitlines()
                raise SlurmUnavailableError(f"{program} does not start: {lines[-1:]}")
            time.sleep(0.1)

    def _accepts_jobs(self):
        try:
            return self.call("sinfo", "--noheader", "--Node", "--format", "%T").split()[:1] == [
                "idle"
            ]
        except subprocess.SubprocessError:
            return False
