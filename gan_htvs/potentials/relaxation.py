"""Relax many structures with an interatomic potential on all cores, with a cache.

Reference phases, candidates, training sets and evaluated samples all use :func:`relax_many`. A
single structure is relaxed by :func:`gan_htvs.potentials.relaxer.relax`.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from gan_htvs.core.candidate import Ending, RelaxationResult
from gan_htvs.core.document import decode, encode
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import NoLocksError, open_locked, report_write_errors
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.processes import run_in_processes
from gan_htvs.potentials.batched_relaxation import is_batched, relax_batched
from gan_htvs.potentials.batches import batches_of
from gan_htvs.potentials.calculators import module_of
from gan_htvs.potentials.relaxer import Work, relax
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.thermodynamics.references import reference_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.potentials.relaxation_settings import PotentialSettings
    from gan_htvs.prescreen.prescreen_settings import Device
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase

    Progress = Callable[[int, int], None]

KILLED = RelaxationResult(
    ending=Ending.KILLED, reason="its worker process was killed twice; is the node out of memory?"
)


class RelaxationCache:
    """Results of relaxations by content hash, so that interrupted work resumes.

    Parameters
    ----------
    path
        File with one JSON line for each result; new results are appended, and incomplete lines
        are ignored. None: results are only kept in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock: TextIO | None = None
        with report_write_errors(self.path):
            self._results = {} if path is None else _read(path)

    def get(self, key: str) -> RelaxationResult | None:
        """Return the result of a key; None if there is none."""
        return self._results.get(key)

    def add(self, key: str, result: RelaxationResult) -> None:
        """Store a result."""
        self._results[key] = result
        if self.path is None:
            return
        line = json.dumps({"key": key, "result": encode(result)}) + "\n"
        with report_write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)

    def hold(self) -> None:
        """Lock the file against other processes while this object exists, and read it again.

        On a file system without locks, two processes may repeat the same relaxations; the lines of
        both stay valid.

        Raises
        ------
        UserError
            If another process has locked the file, or it is not writable.
        """
        if self.path is None or self._lock is not None:
            return
        with report_write_errors(self.path):
            try:
                self._lock = open_locked(self.path)
            except NoLocksError:
                self._lock = self.path.open("a", encoding="utf-8")
            if self.path.read_bytes()[-1:] not in (b"", b"\n"):
                self._lock.write("\n")
                self._lock.flush()
        self._results |= _read(self.path)


def _read(path: Path) -> dict[str, RelaxationResult]:
    results: dict[str, RelaxationResult] = {}
    if not path.exists():
        return results
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            entry = json.loads(line)
            results[entry["key"]] = RelaxationResult.model_validate(decode(entry["result"]))
    return results


def relax_many(
    work: Mapping[str, Work],
    cache: RelaxationCache,
    *,
    device: Device = "cpu",
    n_processes: int | None = None,
    preload: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> dict[str, RelaxationResult]:
    """Relax structures with one potential; cached results are not computed again.

    Parameters
    ----------
    work
        Arguments of :func:`gan_htvs.potentials.relaxer.relax`, by name; equal ones are relaxed
        once.
    cache
        Source of finished results; each new result is added immediately.
    device
        See :class:`gan_htvs.prescreen.prescreen_settings.PrescreenSettings`.
    n_processes
        Processes of one thread each, if no GPU is used; None: only this process.
    preload
        Names of further potentials whose modules the processes import at the start.
    on_progress
        Called with the number done and the total.

    Returns
    -------
    Results by name; :data:`KILLED` if a process was killed twice while it relaxed the structure.
    """
    keys = {name: key_of(piece) for name, piece in work.items()}
    missing = {key: work[name] for name, key in keys.items() if cache.get(key) is None}
    total = len(set(keys.values()))
    done = total - len(missing)
    if on_progress:
        on_progress(done, total)
    results: dict[str, RelaxationResult | None] = {}
    for key, result in _relaxed(missing, device, n_processes, preload):
        results[key] = result
        # Failed reference phases are relaxed again, because the hull needs all of them.
        if result is not None and (result.relaxed is not None or not missing[key].is_reference):
            cache.add(key, result)
        done += 1
        if on_progress:
            on_progress(done, total)
    return {name: results.get(key) or cache.get(key) or KILLED for name, key in keys.items()}


def key_of(piece: Work) -> str:
    """Return the key of a relaxation in a cache: a hash of its arguments."""
    return content_hash("relaxation", *piece)


def _relaxed(
    work: Mapping[str, Work], device: Device, n_processes: int | None, preload: Sequence[str]
) -> Iterator[tuple[str, RelaxationResult | None]]:
    names = {piece.settings.name for piece in work.values()}
    for name in names:
        if is_batched(name, device):
            return relax_batched(work, batches_of(name, "cuda"))
    modules = [module_of(name) for name in dict.fromkeys([*names, *preload])]
    return run_in_processes(relax, work, n_processes, preload=modules)


class Relaxations:
    """Relax structures with the settings of a potential, and cache the results.

    Parameters
    ----------
    settings
        Potential, optimizer and convergence.
    journal
        File of a :class:`RelaxationCache`; None: results are only kept in this object. The file
        is locked unless it has all results.
    n_processes
        Number of processes, of one thread each.
    geometry
        Limits for generated structures.
    """

    def __init__(
        self,
        settings: PotentialSettings,
        *,
        journal: Path | None = None,
        n_processes: int = 1,
        geometry: GeometryLimits = CHEMISTRY,
    ) -> None:
        self.settings = settings
        self.geometry = geometry
        self.n_processes = n_processes
        self.cache = RelaxationCache(journal)

    @classmethod
    def of(cls, campaign: Campaign, workdir: Path, *, n_processes: int) -> Relaxations:
        """Relax with the settings of a campaign and the journal that its commands share."""
        journal = workdir / campaign.name / "relaxations.jsonl"
        return cls(
            campaign.engines.potential,
            journal=journal,
            n_processes=n_processes,
            geometry=campaign.geometry,
        )

    def relax(
        self, structures: Sequence[Structure], *, on_progress: Progress | None = None
    ) -> list[RelaxedStructure | None]:
        """Relax positions and cells.

        Parameters
        ----------
        structures
            Any number, in any order; equal ones are relaxed once.
        on_progress
            Called with the number done and the total.

        Returns
        -------
        For each structure the result, or None if the potential raised.
        :func:`gan_htvs.thermodynamics.assessment.check_relaxation` checks whether it is sound and
        converged.

        Raises
        ------
        UserError
            If the potential is not installed or cannot be loaded, the journal is locked or not
            writable, or a process was killed.
        """
        return [result.relaxed for result in self._relax(structures, self.settings, on_progress)]

    def references(
        self, phases: Sequence[ReferencePhase], *, on_progress: Progress | None = None
    ) -> ReferenceSet:
        """Relax reference phases, except pinned ones, with a larger limit on steps.

        Errors are those of :meth:`relax`.
        """
        free = [phase for phase in phases if phase.pinned_energy_per_atom is None]
        settings = self.settings.for_references
        structures = [phase.structure for phase in free]
        results = self._relax(structures, settings, on_progress, are_references=True)
        outcomes = {
            phase.name: result.relaxed or str(result.reason)
            for phase, result in zip(free, results, strict=True)
        }
        return reference_set(phases, outcomes, self.settings.level_of_theory)

    def _relax(
        self,
        structures: Sequence[Structure],
        settings: PotentialSettings,
        on_progress: Progress | None,
        *,
        are_references: bool = False,
    ) -> list[RelaxationResult]:
        geometry = CHEMISTRY if are_references else self.geometry
        work: dict[str, Work] = {
            str(number): Work(structure, settings, is_reference=are_references, geometry=geometry)
            for number, structure in enumerate(structures)
        }
        if any(self.cache.get(key_of(piece)) is None for piece in work.values()):
            self.cache.hold()
        n_processes = self.n_processes if self.n_processes > 1 else None
        results = relax_many(work, self.cache, n_processes=n_processes, on_progress=on_progress)
        if KILLED in results.values():
            raise UserError(
                "relaxation: a worker process was killed; is the node out of memory? Run the same "
                "command again, with fewer --workers if necessary; it resumes."
            )
        return list(results.values())
