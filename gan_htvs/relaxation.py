"""Relaxations with an interatomic potential, by the hundred: one journal, as many cores as given.

The flows relax through atomate2, one job for each structure. Here are the many small relaxations
that no database needs to know: of a training set, and of the samples that judge a generator.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from monty.json import jsanitize

from gan_htvs.candidate import Relaxed
from gan_htvs.descent import descend, relax_reference_phase
from gan_htvs.documents import decode
from gan_htvs.errors import UserError
from gan_htvs.files import locked
from gan_htvs.identity import content_hash
from gan_htvs.potentials import module_of
from gan_htvs.processes import spread
from gan_htvs.thermodynamics.corrections import level_of_theory
from gan_htvs.thermodynamics.references import reference_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from pymatgen.core import Structure

    from gan_htvs.campaign import Campaign
    from gan_htvs.descent import Descent
    from gan_htvs.engines import PotentialSettings
    from gan_htvs.thermodynamics.hull import ReferenceSet
    from gan_htvs.thermodynamics.references import ReferencePhase


class Relaxations:
    """Relaxes structures and remembers, by content, what came of each.

    Parameters
    ----------
    settings
        Potential, optimizer and convergence.
    journal
        File with one JSON line for each result, read first and appended to; a run that was
        killed goes on with what is missing. Whoever relaxes holds it against other processes.
        None: remember nothing beyond this object.
    n_processes
        Processes that share the work, of one thread each.
    """

    def __init__(
        self,
        settings: PotentialSettings,
        *,
        journal: Path | None = None,
        n_processes: int = 1,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.n_processes = n_processes
        with self._told():
            self._known = {} if journal is None else _read(journal)
        self._reasons: dict[str, str] = {}
        self._file: TextIO | None = None

    @classmethod
    def of(cls, campaign: Campaign, workdir: Path, *, n_processes: int) -> Relaxations:
        """Relax as a campaign does, with the journal that its commands share."""
        journal = workdir / campaign.name / "relaxations.jsonl"
        return cls(campaign.engines.potential, journal=journal, n_processes=n_processes)

    @property
    def level_of_theory(self) -> str:
        """Label of the energies."""
        return level_of_theory(self.settings.name, self.settings.arguments).label

    def relax(
        self,
        structures: Sequence[Structure],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Relaxed | None]:
        """Relax positions and cells.

        Parameters
        ----------
        structures
            Any number, in any order; equal ones are relaxed once.
        on_progress
            Called with the number done and the total.

        Returns
        -------
        For each structure the result, or None where the potential raised. Whether it is sound
        and converged is for :meth:`gan_htvs.assessment.Judge.soundness` to say.

        Raises
        ------
        UserError
            If the potential is not installed or cannot be loaded, the journal cannot be written
            or is another process's, or a process was killed.
        """
        return self._relax(structures, self.settings, on_progress)

    def _relax(
        self,
        structures: Sequence[Structure],
        settings: PotentialSettings,
        on_progress: Callable[[int, int], None] | None,
        *,
        are_references: bool = False,
    ) -> list[Relaxed | None]:
        keys = [_key(structure, settings, are_references) for structure in structures]
        if not self._known.keys() >= set(keys):
            self._hold_journal()
        missing = {
            key: structure
            for key, structure in zip(keys, structures, strict=True)
            if key not in self._known
        }
        done, total = len(set(keys)) - len(missing), len(set(keys))
        if on_progress:
            on_progress(done, total)
        for key, descent in self._work(missing, settings, are_references):
            self._known[key] = relaxed = descent.relaxed
            self._reasons[key] = descent.reason or ""
            # Without an energy there is no hull, so the next run tries the phase again.
            if relaxed is not None or not are_references:
                self._write(key, relaxed)
            done += 1
            if on_progress:
                on_progress(done, total)
        return [self._known[key] for key in keys]

    def references(
        self,
        phases: Sequence[ReferencePhase],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ReferenceSet:
        """Relax reference phases, but for the pinned ones, with more patience.

        Errors are those of :meth:`relax` and
        :func:`gan_htvs.thermodynamics.references.reference_set`.
        """
        free = [phase for phase in phases if phase.pinned_energy_per_atom is None]
        patient = self.settings.for_references
        structures = [phase.structure for phase in free]
        relaxed = self._relax(structures, patient, on_progress, are_references=True)
        outcomes = {
            phase.name: result or self._reasons[_key(phase.structure, patient, True)]
            for phase, result in zip(free, relaxed, strict=True)
        }
        return reference_set(phases, outcomes, self.level_of_theory)

    def _work(
        self, missing: dict[str, Structure], settings: PotentialSettings, are_references: bool
    ) -> Iterable[tuple[str, Descent]]:
        work = {key: (structure, settings) for key, structure in missing.items()}
        n_processes = self.n_processes if self.n_processes > 1 else None
        preload = [module_of(settings.name)]
        relax = relax_reference_phase if are_references else descend
        for key, descent in spread(relax, work, n_processes, preload=preload):
            if descent is None:
                raise UserError(
                    "relaxation: a process was killed, perhaps for want of memory; the same "
                    "command goes on from here, with fewer --workers if need be."
                )
            yield key, descent

    def _hold_journal(self) -> None:
        """Keep other processes off the journal as long as this object lives; read it again."""
        if self.journal is None or self._file is not None:
            return
        with self._told():
            file = locked(self.journal)
            if self.journal.read_bytes()[-1:] not in (b"", b"\n"):
                file.write("\n")
        self._file = file
        self._known |= _read(self.journal)

    def _write(self, key: str, relaxed: Relaxed | None) -> None:
        if self._file is None:
            return
        document = None if relaxed is None else jsanitize(relaxed.model_dump(), strict=True)
        with self._told():
            self._file.write(json.dumps({"key": key, "relaxed": document}) + "\n")
            self._file.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one sentence why the journal cannot be used."""
        try:
            yield
        except BlockingIOError as error:
            raise UserError(
                f"{self.journal}: another command relaxes with this journal; wait for its end, or "
                "choose another folder."
            ) from error
        except OSError as error:
            raise UserError(
                f"{self.journal}: cannot be used: {error.strerror}; choose another folder."
            ) from error


def _key(structure: Structure, settings: PotentialSettings, is_reference: bool) -> str:
    """Return the name of a relaxation in the journal; references are checked differently."""
    kind = "reference relaxation" if is_reference else "relaxation"
    return content_hash(kind, structure, settings)


def _read(journal: Path) -> dict[str, Relaxed | None]:
    """Read a journal; a line that a kill cut short is as good as none."""
    known: dict[str, Relaxed | None] = {}
    if not journal.exists():
        return known
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            entry = json.loads(line)
            document = entry["relaxed"]
            known[entry["key"]] = (
                None if document is None else Relaxed.model_validate(decode(document))
            )
    return known
