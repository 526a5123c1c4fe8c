"""HSE06 band gaps with GPAW, in a process of its own.

One-shot HSE06 eigenvalues on PBE(+U) orbitals: a crash, a time-out or a calculation that does not
converge ends as a :class:`~gan_htvs.bandgap.BandGapResult` that says why, never as a number.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib
from packaging.version import InvalidVersion, Version
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.bandgap import HSE06_ON_PBE, HSE06_ON_PBE_U, BandGapResult, magnetic_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gan_htvs.campaign import BandGapEngineSettings

OLDEST_GPAW = Version("26.7")
"""Older ones (Debian has 22.8) leave the U term in: MnO comes out 0.9 eV too wide."""

SMALL_SETUPS = {"Mg": "2", "Mn": "7"}
"""PAW setups without semicore electrons: as good for a gap, and several times faster."""

SYMPREC = 0.01
"""Tolerance within which a relaxed structure is symmetrised, A."""

MAGNETIC_3D = frozenset({"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"})
"""3d elements whose d shell can be partly filled in an oxide (not Sc and Zn)."""

MOMENT_THRESHOLD = 0.3
"""Smaller starting moments are induced, not magnetism of their own; Bohr magnetons."""

SAME_MOMENT = 0.3
"""Sites of an element whose moments differ by less may be equivalent; Bohr magnetons."""

UNCERTAINTY_U = (
    "about +-0.5 eV for Mn oxides: starting functional 0.4-0.5, magnetic order 0.5, "
    "cutoff up to 0.2, k mesh 0.15 eV"
)
UNCERTAINTY = "one-shot hybrid: cutoff up to 0.2, k mesh 0.15 eV, besides the starting functional"

_INSTALL = (
    "pip install 'gan-htvs[gpaw]' (needs libxc-dev, libopenblas-dev, libfftw3-dev and a C++ "
    "compiler; set CC=g++ where mpic++ is absent)"
)


def availability() -> str | None:
    """Say what keeps GPAW from running here, with the cure; None if nothing does."""
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
    """What one calculation needs to know, free of GPAW."""

    structure: Structure
    """Symmetrised primitive cell with the starting moments as site property ``magmom``."""
    spin_polarized: bool
    kpoints: tuple[int, int, int]
    hubbard_u: dict[str, float]
    """U on the d shell of the elements present that get one, eV."""

    @classmethod
    def prepare(
        cls,
        structure: Structure,
        settings: BandGapEngineSettings,
        *,
        magmoms: Sequence[float] | None = None,
    ) -> GapTask:
        """Reduce, choose starting moments, U and k mesh."""
        moments = starting_moments(structure, magmoms)
        primitive = magnetic_primitive(structure, moments)
        symbols = {element.symbol for element in primitive.composition.elements}
        return cls(
            structure=primitive,
            spin_polarized=bool(np.any(moments)),
            kpoints=kpoint_mesh(primitive, settings.kpoint_length),
            # The Materials Project fitted its U to oxides; elsewhere it does more harm than good.
            hubbard_u={
                symbol: u
                for symbol, u in settings.hubbard_u.items()
                if u > 0 and "O" in symbols and symbol in symbols
            },
        )

    def setups(self) -> dict[str, str]:
        """PAW setup of each element that does not take GPAW's default, U included."""
        chosen = {}
        for element in self.structure.composition.elements:
            setup = SMALL_SETUPS.get(element.symbol, "")
            if u := self.hubbard_u.get(element.symbol):
                setup += f":d,{u}"
            if setup:
                chosen[element.symbol] = setup
        return chosen

    def document(self, settings: BandGapEngineSettings, folder: Path) -> dict[str, Any]:
        """Input of the script."""
        return {
            "lattice": self.structure.lattice.matrix.tolist(),
            "species": [site.specie.symbol for site in self.structure],
            "frac_coords": self.structure.frac_coords.tolist(),
            "magmoms": list(self.structure.site_properties["magmom"]),
            "spin_polarized": self.spin_polarized,
            "setups": self.setups(),
            "kpoints": list(self.kpoints),
            "cutoff": settings.cutoff,
            "workdir": str(folder),
            "output": str(folder / "output.json"),
        }


def starting_moments(structure: Structure, magmoms: Sequence[float] | None = None) -> list[float]:
    """Choose the moments to start from, Bohr magnetons.

    Given moments are kept if any is large, without the small induced ones. Otherwise 3d
    elements that can be magnetic start parallel at the values of the Materials Project.

    Raises
    ------
    ValueError
        If ``magmoms`` has not one number for each site.
    """
    if magmoms is not None:
        if len(magmoms) != len(structure):
            raise ValueError(f"{len(magmoms)=} differs from {len(structure)=}")
        kept = [float(m) if abs(m) > MOMENT_THRESHOLD else 0.0 for m in magmoms]
        if any(kept):
            return kept
    return [_default_moment(site.specie.symbol) for site in structure]


def _default_moment(symbol: str) -> float:
    if symbol not in MAGNETIC_3D:
        return 0.0
    return float(MPRelaxSet.CONFIG["INCAR"]["MAGMOM"].get(symbol, 0.6))


def magnetic_primitive(structure: Structure, moments: Sequence[float]) -> Structure:
    """Find the symmetrised primitive cell in which equivalent sites have equal moments.

    An antiferromagnetic order keeps the cell that it needs.
    """
    groups = _moment_groups([site.specie.symbol for site in structure], moments)
    kinds = sorted(set(groups))
    means = {
        kind: float(np.mean([m for m, g in zip(moments, groups, strict=True) if g == kind]))
        for kind in kinds
    }
    cell = spglib.standardize_cell(
        (
            structure.lattice.matrix.tolist(),
            structure.frac_coords.tolist(),
            [kinds.index(group) for group in groups],
        ),
        to_primitive=True,
        no_idealize=False,
        symprec=SYMPREC,
    )
    if cell is None:
        primitive = structure.copy()
        found = groups
    else:
        lattice, coords, types = cell
        found = [kinds[i] for i in types]
        primitive = Structure(Lattice(lattice), [symbol for symbol, _ in found], coords)
    primitive.add_site_property("magmom", [means[kind] for kind in found])
    return primitive


def _moment_groups(symbols: Sequence[str], moments: Sequence[float]) -> list[tuple[str, int]]:
    """Label sites by element and moment, so that noise does not separate equal sites."""
    groups: list[tuple[str, int]] = [("", 0)] * len(symbols)
    order = sorted(range(len(symbols)), key=lambda i: (symbols[i], moments[i]))
    number = 0
    for previous, site in zip([None, *order], order, strict=False):
        if previous is not None and symbols[previous] == symbols[site]:
            number += moments[site] - moments[previous] > SAME_MOMENT
        else:
            number = 0
        groups[site] = (symbols[site], number)
    return groups


def kpoint_mesh(structure: Structure, length: float) -> tuple[int, int, int]:
    """Choose the smallest Gamma-centred mesh with n * a >= ``length`` (A) and full symmetry.

    Where the lattice symmetry mixes axes of different length, all get the largest number.
    """
    mesh = np.array([max(1, math.ceil(length / a - 1e-6)) for a in structure.lattice.abc])
    dataset = spglib.get_symmetry_dataset(
        (
            structure.lattice.matrix.tolist(),
            structure.frac_coords.tolist(),
            list(structure.atomic_numbers),
        ),
        symprec=SYMPREC,
    )
    if dataset is not None:
        # A rotation W of positions acts on k points as W^-T; the mesh is invariant if that maps
        # multiples of 1/n onto each other.
        images = dataset.rotations.transpose(0, 2, 1) * mesh[None, :, None] / mesh[None, None, :]
        if not np.allclose(images, images.round()):
            mesh[:] = mesh.max()
    return (int(mesh[0]), int(mesh[1]), int(mesh[2]))


def compute_gap(
    structure: Structure,
    settings: BandGapEngineSettings,
    *,
    magmoms: Sequence[float] | None = None,
    workdir: str | Path,
) -> BandGapResult:
    """Compute the HSE06@PBE(+U) gap of a structure; every failure becomes a reason.

    Parameters
    ----------
    structure
        Ordered crystal; it is reduced to its primitive cell first.
    settings
        Section ``engines.band_gap`` of campaign.yaml.
    magmoms
        Starting moment of each site, Bohr magnetons; their signs decide the magnetic order.
        None, or all of them small: ferromagnetic 3d elements.
    workdir
        Folder in which the calculation makes its own.
    """
    if settings.name == "none":
        return BandGapResult.not_computed("switched off by engines.band_gap.name: none")
    if not structure.is_ordered:
        return BandGapResult.not_computed("the structure has partly occupied sites")
    if (obstacle := availability()) is not None:
        return BandGapResult.not_computed(obstacle, is_retryable=True)
    task = GapTask.prepare(structure, settings, magmoms=magmoms)
    if len(task.structure) > settings.max_atoms:
        return BandGapResult.not_computed(
            f"{len(task.structure)} atoms in the primitive cell exceed "
            f"engines.band_gap.max_atoms: {settings.max_atoms}"
        )
    Path(workdir).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gap-", dir=workdir)).resolve()
    document = task.document(settings, folder)
    started = time.monotonic()
    failure = _run_script(document, folder, max_seconds=settings.max_seconds)
    seconds = round(time.monotonic() - started, 1)
    if failure is not None:
        return BandGapResult.not_computed(failure, seconds=seconds)
    raw = json.loads(Path(document["output"]).read_text(encoding="utf-8"))
    total = raw["total_magnetization"]
    order = magnetic_order(raw.pop("site_magnetizations"), total=total)
    return BandGapResult(
        **raw,
        method=HSE06_ON_PBE_U if task.hubbard_u else HSE06_ON_PBE,
        magnetic_order=order,
        nsites=len(task.structure),
        kpoints=task.kpoints,
        cutoff=settings.cutoff,
        hubbard_u=task.hubbard_u,
        seconds=seconds,
        uncertainty=UNCERTAINTY_U if task.hubbard_u else UNCERTAINTY,
    )


def _run_script(document: dict[str, Any], folder: Path, *, max_seconds: float) -> str | None:
    """Run the script on ``document``; None on success, else what went wrong."""
    input_path = folder / "input.json"
    input_path.write_text(json.dumps(document), encoding="utf-8")
    log = folder / "log.txt"
    try:
        with _script(input_path, log) as process:
            code = process.wait(timeout=max_seconds)
    except subprocess.TimeoutExpired:
        return f"GPAW took longer than engines.band_gap.max_seconds: {max_seconds:g}"
    if code < 0:
        return f"GPAW was killed by {signal.Signals(-code).name}{_last_words(folder)}"
    if code > 0 or not Path(document["output"]).is_file():
        return f"GPAW failed{_last_words(folder, log)}"
    return None


@contextlib.contextmanager
def _script(input_path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the script in its own process group, which does not outlive the block."""
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root]),
    }
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "flows.engines._gpaw_gap", str(input_path)],
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
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _last_words(folder: Path, *files: Path) -> str:
    """Last meaningful line of ``files``, or of what the calculation wrote last."""
    candidates = files or sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
    for path in reversed(candidates):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if any(character.isalnum() for character in line):
                return f": {line.strip()[:300]}"
    return ""
