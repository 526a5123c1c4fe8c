"""HSE06 band gaps with GPAW, in separate processes.

The initial magnetic orderings are converged with PBE(+U), one after another. The ordering of lowest
energy gets one-shot HSE06 eigenvalues, the most expensive step. Limits count SCF iterations and
eigenvalues with exact exchange, so that results do not depend on the load of the machine; the limit
of the wall time only ends calculations that take too long.

If an ordering does not converge, the gap of the others is stored as incomplete; a calculation with
a larger limit computes the missing ones and completes it. After a crash or at the limit of the wall
time the :class:`~gan_htvs.core.band_gap.BandGapResult` has a reason and no gap; another calculation
computes what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from gan_htvs.core.band_gap import (
    HSE06_ON_PBE,
    HSE06_ON_PBE_U,
    BandGapResult,
    MagneticOrderingResult,
    magnetic_order,
    missing_orderings,
    sort_by_energy,
)
from gan_htvs.magnetism.initial_moments import magnetic_starts
from gan_htvs.magnetism.kpoints import kpoint_mesh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from gan_htvs.campaign.engines import BandGapEngineSettings

MIN_GPAW_VERSION = Version("26.7")
"""Older versions (Debian has 22.8) keep the U term in HSE06: the gap of MnO is 0.9 eV too wide."""

SMALL_SETUPS = {"Mg": "2", "Mn": "7"}
"""PAW setups without semicore electrons: as accurate for a gap, and several times faster."""

SECONDS_TO_END = 5.0
"""Time between SIGTERM and SIGKILL; an MPI launcher first ends its ranks."""

UNCERTAINTY_U = (
    "about +-0.5 eV for Mn oxides: starting functional 0.4-0.5, magnetic order 0.5, "
    "cutoff up to 0.2, k mesh 0.15 eV"
)
UNCERTAINTY = "one-shot hybrid: cutoff up to 0.2, k mesh 0.15 eV, besides the starting functional"

_INSTALL = (
    "pip install 'gan-htvs[gpaw]' (needs libxc-dev, libopenblas-dev, libfftw3-dev and a C++ "
    "compiler; set CC=g++ where mpic++ is absent)"
)


def installed_version() -> str | None:
    """Return the version of GPAW; None if it is not installed."""
    try:
        return version("gpaw")
    except PackageNotFoundError:
        return None


def availability(mpi_command: Sequence[str] | None = None) -> str | None:
    """Return why GPAW cannot run here, with a fix; None if it can."""
    installed = installed_version()
    if installed is None:
        return f"GPAW is not installed: {_INSTALL}"
    if Version(installed) < MIN_GPAW_VERSION:
        return f"GPAW {installed} is older than {MIN_GPAW_VERSION}, wrong with +U: {_INSTALL}"
    folders = [Path(p) for p in os.environ.get("GPAW_SETUP_PATH", "").split(os.pathsep) if p]
    if find_spec("gpaw_data") is None and not any(any(f.glob("*.PBE*")) for f in folders):
        return "GPAW finds no PAW setups: pip install gpaw-data, or set GPAW_SETUP_PATH"
    if mpi_command is not None and shutil.which(mpi_command[0]) is None:
        return (
            f"engines.band_gap.mpi_command: {mpi_command[0]!r} is not installed on this "
            "machine: install it (apt-get install openmpi-bin), or remove mpi_command"
        )
    return None


def gap_input(structure: Structure, settings: BandGapEngineSettings) -> dict[str, Any]:
    """Return the input of the script for one magnetic ordering.

    Parameters
    ----------
    structure
        Cell of the ordering, see :func:`~gan_htvs.magnetism.initial_moments.magnetic_starts`.
    settings
        Section ``engines.band_gap`` of campaign.yaml.

    Returns
    -------
    The arguments of GPAW as plain values, with ``hubbard_u`` (eV, on the d shell) by element.
    """
    symbols = [element.symbol for element in structure.composition.elements]
    # The Materials Project fitted its U to oxides; it is not valid for other compounds.
    with_u = {symbol for symbol in symbols if "O" in symbols and settings.hubbard_u.get(symbol)}
    hubbard_u = {symbol: settings.hubbard_u[symbol] for symbol in sorted(with_u)}
    setups = {symbol: SMALL_SETUPS.get(symbol, "") for symbol in symbols}
    for symbol, u in hubbard_u.items():
        setups[symbol] += f":d,{u}"
    magmoms = list(structure.site_properties["magmom"])
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
        "magmoms": magmoms,
        "spin_polarized": any(magmoms),
        "setups": {symbol: setup for symbol, setup in setups.items() if setup},
        "hubbard_u": hubbard_u,
        "kpoints": kpoint_mesh(structure, settings.kpoint_length),
        "cutoff": settings.cutoff,
        "max_scf_iterations": settings.max_scf_iterations,
        "max_hybrid_evaluations": settings.max_hybrid_evaluations,
        "is_parallel": settings.mpi_command is not None,
    }


def compute_gap(
    structure: Structure,
    settings: BandGapEngineSettings,
    *,
    magmoms: Sequence[float] | None = None,
    workdir: str | Path,
    previous: BandGapResult | None = None,
) -> BandGapResult:
    """Compute the HSE06@PBE(+U) gap of a structure; a failed calculation gives a reason.

    Parameters
    ----------
    structure
        Ordered crystal; it is reduced to the primitive cell of each magnetic ordering first.
    settings
        Section ``engines.band_gap`` of campaign.yaml.
    magmoms
        Moment of each site, Bohr magnetons, see
        :func:`~gan_htvs.magnetism.initial_moments.magnetic_starts`. None, or all of them small:
        values of the Materials Project for 3d elements.
    workdir
        Folder in which the folder of the calculation is created.
    previous
        Result of an earlier calculation of this structure with these settings, apart from limits.
        Magnetic orderings with an energy, or with a failure that would repeat, are not computed
        again. The gap is kept if it belongs to the ordering of lowest energy.
    """
    if not structure.is_ordered:
        return BandGapResult(reason="the structure has partly occupied sites")
    if (reason := availability(settings.mpi_command)) is not None:
        # Keep the result of an earlier calculation on another machine.
        if previous is not None and previous.magnetic_orders:
            return previous
        return BandGapResult(reason=reason, is_retryable=True)
    starts = magnetic_starts(structure, magmoms, orders=settings.magnetic_orders)
    Path(workdir).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gap-", dir=workdir)).resolve()
    inputs = {name: gap_input(start, settings) for name, start in starts.items()}
    return _Calculation(inputs, settings, folder, previous).run()


@dataclass
class _Calculation:
    """All calculations for one structure, under one wall-time limit."""

    inputs: dict[str, dict[str, Any]]
    """Input of the script by magnetic start."""
    settings: BandGapEngineSettings
    folder: Path
    previous: BandGapResult | None
    started: float = field(default_factory=time.monotonic)
    results: list[MagneticOrderingResult] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    @property
    def was_killed(self) -> bool:
        """Whether an ordering is missing because its calculation was killed."""
        return any(order.was_killed for order in self.results)

    @property
    def orders(self) -> tuple[MagneticOrderingResult, ...]:
        """The magnetic orderings, lowest energy first."""
        return sort_by_energy(self.results)

    def run(self) -> BandGapResult:
        """Converge every start, then compute the gap of the ordering of lowest energy."""
        self._converge_all()
        try:
            return self._earlier_gap() or self._gap(self.orders[0])
        finally:
            for checkpoint in self.folder.glob("*/state.gpw"):
                checkpoint.unlink()

    def _converge_all(self) -> None:
        """Converge the starts without a final result of an earlier calculation."""
        pending = {
            start: {
                "start": start,
                "nsites": len(document["species"]),
                "kpoints": document["kpoints"],
                "gpaw_version": installed_version(),
            }
            for start, document in self.inputs.items()
        }
        for order in self.previous.magnetic_orders if self.previous else ():
            identity = pending.get(order.start, {})
            is_same = identity == order.model_dump(include=set(identity))
            if identity and is_same and order.is_final(self.settings.max_scf_iterations):
                self.results.append(order)
                del pending[order.start]
        for start, identity in pending.items():
            began = self.seconds
            outcome = self._converge(start, identity["nsites"])
            seconds = round(self.seconds - began, 1)
            self.results.append(MagneticOrderingResult(**identity, **outcome, seconds=seconds))

    def _converge(self, start: str, n_atoms: int) -> dict[str, Any]:
        """Converge one start and return the fields of its result."""
        if n_atoms > self.settings.max_atoms:
            reason = (
                f"{n_atoms} atoms in the primitive cell exceed "
                f"engines.band_gap.max_atoms: {self.settings.max_atoms}"
            )
            return {"reason": reason, "is_skipped": True}
        raw = self._script(start, "converge")
        if "reason" in raw:
            return raw
        moments = raw.pop("site_magnetizations")
        return raw | {"order": magnetic_order(moments, total=raw["total_magnetization"])}

    def _earlier_gap(self) -> BandGapResult | None:
        """Return the gap of an earlier calculation if its ordering still has the lowest energy."""
        previous = self.previous
        if previous is None or previous.band_gap is None or self.was_killed:
            return None
        if self.orders[:1] != previous.magnetic_orders[:1]:
            return None
        fields = previous.model_dump(
            exclude={"is_complete", "reason", "is_limited", "is_retryable"}
        )
        seconds = round((previous.seconds or 0) + self.seconds, 1)
        return BandGapResult(**fields | {"magnetic_orders": self.orders, "seconds": seconds})

    def _gap(self, lowest: MagneticOrderingResult) -> BandGapResult:
        """Compute the gap of the ordering of lowest energy, or return why there is none."""
        raw: dict[str, Any] = {}
        if lowest.energy_per_atom is None:
            raw = {"reason": self._reasons()}
        elif self.was_killed:
            raw = {"reason": missing_orderings(self.orders)}
        elif not (self.folder / lowest.start).exists():
            # An earlier calculation converged it, perhaps with a larger limit.
            document = self.inputs[lowest.start]
            n_iterations = max(document["max_scf_iterations"], lowest.scf_iterations or 0)
            document["max_scf_iterations"] = n_iterations
            raw = self._script(lowest.start, "converge")
        if "reason" not in raw:
            raw = self._script(lowest.start, "gap")
        if "reason" in raw:
            return BandGapResult(**raw, seconds=self.seconds, magnetic_orders=self.orders)
        hubbard_u = self.inputs[lowest.start]["hubbard_u"]
        return BandGapResult(
            **raw,
            method=HSE06_ON_PBE_U if hubbard_u else HSE06_ON_PBE,
            magnetic_order=lowest.order,
            total_magnetization=lowest.total_magnetization,
            magnetic_orders=self.orders,
            nsites=lowest.nsites,
            kpoints=lowest.kpoints,
            scf_iterations=lowest.scf_iterations,
            cutoff=self.settings.cutoff,
            hubbard_u=hubbard_u,
            seconds=self.seconds,
            uncertainty=UNCERTAINTY_U if hubbard_u else UNCERTAINTY,
        )

    def _reasons(self) -> str:
        """Return the reasons of all failed starts; equal reasons are listed once."""
        reasons = {order.start: str(order.reason) for order in self.results}
        if len(set(reasons.values())) == 1:
            return next(iter(reasons.values()))
        return "; ".join(f"{start}: {reason}" for start, reason in reasons.items())

    def _script(self, start: str, step: str) -> dict[str, Any]:
        """Run one step of the script; return its result, or ``reason`` and ``is_retryable``.

        It is killed when all calculations for the structure have taken ``max_seconds``.
        """
        folder = self.folder / start
        folder.mkdir(exist_ok=True)
        names = ("input.json", "output.json", "log.txt")
        input_path, output, log = (folder / f"{step}-{name}" for name in names)
        files = {"workdir": folder, "checkpoint": folder / "state.gpw", "output": output}
        document = self.inputs[start] | {name: str(path) for name, path in files.items()}
        input_path.write_text(json.dumps(document | {"step": step}), encoding="utf-8")
        limit = self.settings.max_seconds
        remaining = self.started + limit - time.monotonic()
        killed = {
            "reason": f"GPAW was killed after {limit:g} s (engines.band_gap.max_seconds)",
            "is_retryable": True,
        }
        if remaining <= 0:
            return killed
        try:
            code = _run(input_path, log, self.settings.mpi_command, remaining)
        except subprocess.TimeoutExpired:
            return killed
        result = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        if "reason" in result:
            return {**result, "reason": f"GPAW failed: {result['reason']}"}
        if code == 0 and result:
            return dict(result)
        # No reason was written: the script crashed, or another process ended it.
        texts = sorted(folder.glob("gpaw-*.txt"))
        lines = [line for file in (*texts, log) for line in _lines(file)]
        event = f"was killed by {signal.Signals(-code).name}" if code < 0 else "failed"
        reason = ": ".join([f"GPAW {event}", *lines[-1:]])
        if code >= 0 and self.settings.mpi_command is not None and not texts:
            beginning = " ".join(lines)[:200]
            reason = f"engines.band_gap.mpi_command did not start GPAW: {beginning}"
        return {"reason": reason, "is_retryable": True}


def _run(input_path: Path, log: Path, mpi_command: Sequence[str] | None, timeout: float) -> int:
    """Run the script in its own process group, which is killed after ``timeout`` seconds.

    Returns
    -------
    The exit status, negative if a signal ended the script.

    Raises
    ------
    subprocess.TimeoutExpired
        If it was killed.
    """
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    script = [sys.executable, "-m", "flows.engines._gpaw_gap", str(input_path)]
    with (
        log.open("wb") as sink,
        subprocess.Popen(  # noqa: S603 - this interpreter, started by the launcher of the user
            [*(mpi_command or ()), *script],
            # Nothing is written to it: the script exits when this end of the pipe closes.
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(timeout)
        finally:
            # An MPI launcher puts its ranks into other process groups; SIGTERM makes it end them.
            for sign in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, sign)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(SECONDS_TO_END)


def _lines(path: Path) -> list[str]:
    """Read the lines of a text file that contain letters or digits."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip()[:300] for line in lines if any(map(str.isalnum, line))]
