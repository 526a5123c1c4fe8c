"""HSE06 band gaps with GPAW, in separate processes.

The starting magnetic orders are converged with PBE(+U), one after another. The order of lowest
energy gets one-shot HSE06 eigenvalues, which take most of the time. After a crash, a time-out or a
calculation that does not converge, the :class:`~gan_htvs.bandgap.BandGapResult` has a reason and no
gap. If only some orders converge, the gap is stored as incomplete; another calculation completes it
and computes only what is missing.
"""

from __future__ import annotations

import contextlib
import json
import math
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

import numpy as np
from packaging.version import InvalidVersion, Version

from gan_htvs.bandgap import (
    HSE06_ON_PBE,
    HSE06_ON_PBE_U,
    BandGapResult,
    MagneticOrderResult,
    magnetic_order,
)
from gan_htvs.kpoints import kpoint_mesh
from gan_htvs.magnetism import magnetic_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymatgen.core import Structure

    from gan_htvs.engines import BandGapEngineSettings
    from gan_htvs.magnetism import MagneticStart

OLDEST_GPAW = Version("26.7")
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
    """Return the version of GPAW; None if it cannot be read."""
    try:
        return version("gpaw")
    except PackageNotFoundError:
        return None


def availability() -> str | None:
    """Return why GPAW cannot run here, with a fix; None if it can."""
    if find_spec("gpaw") is None:
        return f"GPAW is not installed: {_INSTALL}"
    try:
        installed = version("gpaw")
        if Version(installed) < OLDEST_GPAW:
            return f"GPAW {installed} is older than {OLDEST_GPAW}, wrong with +U: {_INSTALL}"
    except (PackageNotFoundError, InvalidVersion):
        return f"the version of GPAW cannot be read, it must be {OLDEST_GPAW} or newer: {_INSTALL}"
    folders = [Path(p) for p in os.environ.get("GPAW_SETUP_PATH", "").split(os.pathsep) if p]
    if find_spec("gpaw_data") is None and not any(any(f.glob("*.PBE*")) for f in folders):
        return "GPAW finds no PAW setups: pip install gpaw-data, or set GPAW_SETUP_PATH"
    return None


@dataclass(frozen=True)
class GapTask:
    """Input of one calculation, independent of GPAW."""

    structure: Structure
    """Symmetrized primitive cell with the starting moments as site property ``magmom``."""
    spin_polarized: bool
    kpoints: tuple[int, int, int]
    hubbard_u: dict[str, float]
    """U on the d shell of elements, eV."""

    @classmethod
    def prepare(cls, structure: Structure, settings: BandGapEngineSettings) -> GapTask:
        """Choose U and k mesh for the cell of a :class:`~gan_htvs.magnetism.MagneticStart`."""
        symbols = {element.symbol for element in structure.composition.elements}
        return cls(
            structure=structure,
            spin_polarized=bool(np.any(structure.site_properties["magmom"])),
            kpoints=kpoint_mesh(structure, settings.kpoint_length),
            # The Materials Project fitted its U to oxides; it is not valid for other compounds.
            hubbard_u={
                symbol: u
                for symbol, u in settings.hubbard_u.items()
                if u > 0 and "O" in symbols and symbol in symbols
            },
        )

    def setups(self) -> dict[str, str]:
        """Return the PAW setups that differ from GPAW's default, including U, by element."""
        chosen = {}
        for element in self.structure.composition.elements:
            setup = SMALL_SETUPS.get(element.symbol, "")
            if u := self.hubbard_u.get(element.symbol):
                setup += f":d,{u}"
            if setup:
                chosen[element.symbol] = setup
        return chosen

    def document(self, settings: BandGapEngineSettings, folder: Path) -> dict[str, Any]:
        """Return the input of the script, without the step."""
        return {
            "lattice": self.structure.lattice.matrix.tolist(),
            "species": [site.specie.symbol for site in self.structure],
            "frac_coords": self.structure.frac_coords.tolist(),
            "magmoms": list(self.structure.site_properties["magmom"]),
            "spin_polarized": self.spin_polarized,
            "setups": self.setups(),
            "kpoints": list(self.kpoints),
            "cutoff": settings.cutoff,
            "is_parallel": settings.mpi_command is not None,
            "workdir": str(folder),
            "checkpoint": str(folder / "state.gpw"),
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
        Ordered crystal; it is reduced to the primitive cell of each magnetic order first.
    settings
        Section ``engines.band_gap`` of campaign.yaml.
    magmoms
        Moment of each site, Bohr magnetons, see :func:`~gan_htvs.magnetism.magnetic_starts`.
        None, or all of them small: values of the Materials Project for 3d elements.
    workdir
        Folder in which the calculation makes its own.
    previous
        Result of an earlier calculation of this structure with these settings. Magnetic orders
        with an energy are not converged again, nor those that would fail again. The gap is kept if
        it is that of the lowest order.
    """
    if settings.name == "none":
        return BandGapResult.not_computed("switched off by engines.band_gap.name: none")
    if not structure.is_ordered:
        return BandGapResult.not_computed("the structure has partly occupied sites")
    if (reason := availability() or _launcher_unavailable_reason(settings)) is not None:
        # Keep the result of an earlier calculation on another machine.
        if previous is not None and previous.magnetic_orders:
            return previous
        return BandGapResult.not_computed(reason, is_retryable=True)
    starts = magnetic_starts(structure, magmoms, orders=settings.magnetic_orders)
    Path(workdir).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gap-", dir=workdir)).resolve()
    return _Calculation(settings, folder, previous).run(starts)


def _launcher_unavailable_reason(settings: BandGapEngineSettings) -> str | None:
    if settings.mpi_command is None or shutil.which(settings.mpi_command[0]) is not None:
        return None
    return (
        f"engines.band_gap.mpi_command: there is no command {settings.mpi_command[0]!r} on this "
        "machine: install it (apt-get install openmpi-bin), or remove mpi_command"
    )


class _Failure(Exception):  # noqa: N818 - a result, not a bug
    """A calculation without a result; the message is the reason."""

    def __init__(
        self,
        reason: str,
        *,
        is_final: bool = False,
        is_retryable: bool = False,
        is_skipped: bool = False,
    ) -> None:
        super().__init__(reason)
        self.is_final = is_final
        """Whether other calculations of this structure would fail too."""
        self.is_retryable = is_retryable
        """Whether the same calculation may succeed in another run."""
        self.is_skipped = is_skipped
        """Whether a setting excludes the calculation."""


@dataclass(frozen=True)
class _State:
    """A converged magnetic order."""

    result: MagneticOrderResult
    task: GapTask
    folder: Path
    """Folder of its wave functions; they are missing if ``is_reused``."""
    is_reused: bool

    @property
    def energy(self) -> float:
        return _energy(self.result)


def _energy(result: MagneticOrderResult) -> float:
    return math.inf if result.energy_per_atom is None else result.energy_per_atom


@dataclass
class _Calculation:
    """All calculations for one structure, under one wall-time limit."""

    settings: BandGapEngineSettings
    folder: Path
    previous: BandGapResult | None = None
    started: float = field(default_factory=time.monotonic)
    orders: list[MagneticOrderResult] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def run(self, starts: Sequence[MagneticStart]) -> BandGapResult:
        """Converge every start, then compute the gap of the order of lowest energy."""
        try:
            lowest = self._lowest(starts)
            if (earlier := self._earlier_gap()) is not None:
                return earlier
            if lowest.is_reused:
                lowest.folder.mkdir()
                self._script(lowest.task, lowest.folder, "converge")
            raw = self._script(lowest.task, lowest.folder, "gap")
        except _Failure as failure:
            return self._earlier_gap() or BandGapResult.not_computed(
                str(failure),
                seconds=self.seconds,
                is_retryable=failure.is_retryable,
                magnetic_orders=self._by_energy(),
            )
        finally:
            for checkpoint in self.folder.glob("*/state.gpw"):
                checkpoint.unlink()
        task = lowest.task
        return BandGapResult(
            **raw,
            method=HSE06_ON_PBE_U if task.hubbard_u else HSE06_ON_PBE,
            magnetic_order=lowest.result.order,
            total_magnetization=lowest.result.total_magnetization,
            magnetic_orders=self._by_energy(),
            nsites=len(task.structure),
            kpoints=task.kpoints,
            cutoff=self.settings.cutoff,
            hubbard_u=task.hubbard_u,
            seconds=self.seconds,
            uncertainty=UNCERTAINTY_U if task.hubbard_u else UNCERTAINTY,
        )

    def _lowest(self, starts: Sequence[MagneticStart]) -> _State:
        """Return the start that converges to the lowest energy.

        Raises
        ------
        _Failure
            If none converges.
        """
        states, pending = [], []
        for start in starts:
            task = GapTask.prepare(start.structure, self.settings)
            folder = self.folder / start.name
            inputs = {
                "start": start.name,
                "nsites": len(task.structure),
                "kpoints": task.kpoints,
                "gpaw_version": installed_version(),
            }
            if (earlier := self._earlier_order(inputs)) is None:
                pending.append((inputs, task, folder))
                continue
            self.orders.append(earlier)
            if earlier.energy_per_atom is not None:
                states.append(_State(earlier, task, folder, is_reused=True))
        for inputs, task, folder in pending:
            result = self._converge(inputs, task, folder)
            if result.energy_per_atom is not None:
                states.append(_State(result, task, folder, is_reused=False))
        if not states:
            is_retryable = any(order.is_retryable for order in self.orders)
            raise _Failure(self._reasons(), is_retryable=is_retryable)
        return min(states, key=lambda state: state.energy)

    def _earlier_order(self, inputs: dict[str, Any]) -> MagneticOrderResult | None:
        """Return the result of an earlier calculation of a start, unless a retry may succeed."""
        for order in self.previous.magnetic_orders if self.previous else ():
            is_same = all(getattr(order, name) == value for name, value in inputs.items())
            if is_same and not order.is_retryable:
                return order
        return None

    def _earlier_gap(self) -> BandGapResult | None:
        """Return the gap of an earlier calculation, if its order is still the lowest."""
        previous, orders = self.previous, self._by_energy()
        if previous is None or previous.band_gap is None:
            return None
        if orders[:1] != previous.magnetic_orders[:1]:
            return None
        fields = previous.model_dump(exclude={"is_complete", "reason", "is_retryable"})
        seconds = round((previous.seconds or 0) + self.seconds, 1)
        return BandGapResult(**fields | {"magnetic_orders": orders, "seconds": seconds})

    def _converge(self, inputs: dict[str, Any], task: GapTask, folder: Path) -> MagneticOrderResult:
        """Converge and record one start.

        Raises
        ------
        _Failure
            If the other starts would fail too.
        """
        began = self.seconds
        try:
            self._check_size(task)
            folder.mkdir()
            raw = self._script(task, folder, "converge", spares_half=self._has_converged)
        except _Failure as failure:
            result = MagneticOrderResult(
                **inputs,
                reason=str(failure),
                is_skipped=failure.is_skipped,
                is_retryable=failure.is_retryable,
                seconds=round(self.seconds - began, 1),
            )
            self.orders.append(result)
            if failure.is_final:
                raise
            return result
        order = magnetic_order(raw.pop("site_magnetizations"), total=raw["total_magnetization"])
        seconds = round(self.seconds - began, 1)
        result = MagneticOrderResult(**inputs, **raw, order=order, seconds=seconds)
        self.orders.append(result)
        return result

    def _check_size(self, task: GapTask) -> None:
        if len(task.structure) > self.settings.max_atoms:
            raise _Failure(
                f"{len(task.structure)} atoms in the primitive cell exceed "
                f"engines.band_gap.max_atoms: {self.settings.max_atoms}",
                is_skipped=True,
            )

    @property
    def _has_converged(self) -> bool:
        return any(result.reason is None for result in self.orders)

    def _by_energy(self) -> tuple[MagneticOrderResult, ...]:
        return tuple(sorted(self.orders, key=_energy))

    def _reasons(self) -> str:
        """Return why every start failed; equal reasons are given once."""
        reasons = dict.fromkeys(str(result.reason) for result in self.orders)
        if len(reasons) == 1:
            return next(iter(reasons))
        return "; ".join(f"{result.start}: {result.reason}" for result in self.orders)

    def _script(
        self, task: GapTask, folder: Path, step: str, *, spares_half: bool = False
    ) -> dict[str, Any]:
        """Run one step of the script and read its result.

        With ``spares_half`` the step may take half of the remaining time.

        Raises
        ------
        _Failure
            If it has no result.
        """
        output = folder / f"{step}-output.json"
        document = task.document(self.settings, folder)
        input_path = folder / f"{step}-input.json"
        input_path.write_text(json.dumps(document | {"step": step, "output": str(output)}))
        log = folder / f"{step}-log.txt"
        limit = self.settings.max_seconds
        remaining = max(0.0, self.started + limit - time.monotonic())
        try:
            with _script(input_path, log, self.settings.mpi_command) as process:
                code = process.wait(timeout=remaining / 2 if spares_half else remaining)
        except subprocess.TimeoutExpired:
            reason = f"GPAW took longer than engines.band_gap.max_seconds: {limit:g}"
            if spares_half:
                reason = f"GPAW took longer than half of the remaining time (limit: {limit:g} s)"
            raise _Failure(reason, is_final=not spares_half, is_retryable=True) from None
        result = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        if result.get("is_final"):
            raise _Failure(result["reason"], is_final=True, is_retryable=True)
        if "reason" in result:
            reason = f"GPAW failed: {result['reason']}"
            raise _Failure(reason, is_retryable=result["is_retryable"])
        if code < 0:
            reason = f"GPAW was killed by {signal.Signals(-code).name}{_last_words(folder)}"
            raise _Failure(reason, is_retryable=True)
        if self.settings.mpi_command is not None and not any(folder.glob("gpaw-*.txt")):
            reason = f"engines.band_gap.mpi_command did not start GPAW: {_first_words(log)}"
            raise _Failure(reason, is_final=True, is_retryable=True)
        if code > 0 or not result:
            # Without a reason it crashed, or another process ended it.
            raise _Failure(f"GPAW failed{_last_words(folder, log)}", is_retryable=True)
        return dict(result)


@contextlib.contextmanager
def _script(
    input_path: Path, log: Path, mpi_command: Sequence[str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the script in its own process group, which is killed at the end of the block."""
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root]),
    }
    script = [sys.executable, "-m", "flows.engines._gpaw_gap", str(input_path)]
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - the current interpreter, behind the user's launcher
            [*(mpi_command or ()), *script],
            # Never written to: the script ends when this end of the pipe closes.
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # An MPI launcher puts its ranks into other process groups; SIGTERM makes it end them.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS_TO_END)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _last_words(folder: Path, *files: Path) -> str:
    """Return the last meaningful line of ``files``, or of the latest text file."""
    candidates = files or sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
    for path in reversed(candidates):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if any(character.isalnum() for character in line):
                return f": {line.strip()[:300]}"
    return ""


def _first_words(log: Path) -> str:
    """Return the beginning of the message of an MPI launcher, which may be long."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line.strip() for line in lines if any(character.isalnum() for character in line)]
    return " ".join(words)[:200]
