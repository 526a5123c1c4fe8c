"""The pipelines that `prescreen.py` compares: one job for each structure, and the prescreen."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
import warnings
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from monty.json import jsanitize
from pymatgen.core import Structure

from gan_htvs.core.candidate import Origin, PrescreenVerdict, Proposal
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.processes import run_in_processes
from gan_htvs.core.stages import ProposerName, ScreeningStep
from gan_htvs.core.statistics import Share
from gan_htvs.potentials.relaxation import Relaxations
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from gan_htvs.prescreen.screening import Prescreen
from gan_htvs.structures.declash import declash
from gan_htvs.structures.matching import UniqueStructures
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.plausibility import LOWEST_PLAUSIBLE
from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from samples import Sampled


SEED = 2020
WINDOWS = (0.2, 0.08)
"""Largest energies above hull of counted crystals, eV/atom."""
RECALL = 0.94
N_REPEATED = 12
"""Jobs of an earlier run that are timed again."""
_SELF = psutil.Process()


@dataclass
class Outcome:
    """Result of a pipeline for one sample.

    Attributes
    ----------
    energy
        Energy above hull, eV/atom; None unless it is a unique, confirmed crystal within the window.
    seconds
        Processor time of the sample.
    steps
        Relaxation steps.
    status
        Step that rejected the sample, or "confirmed".
    """

    energy: float | None
    seconds: float
    steps: int
    status: str


@dataclass
class Run:
    """Outcomes of a pipeline, and its processor time including the start-up of processes."""

    name: str
    outcomes: list[Outcome]
    cpu_seconds: float
    wall_seconds: float

    def share_within(self, window: float) -> Share:
        """Return the share of samples that are crystals within a window."""
        energies = [outcome.energy for outcome in self.outcomes]
        k = sum(energy is not None and energy <= window for energy in energies)
        return Share(k=k, n=len(energies))

    def per_core_hour(self, window: float) -> float:
        """Return the number of crystals within a window per core-hour."""
        return self.share_within(window).k / (self.cpu_seconds / 3600)


def rules_of(folder: Path, n_processes: int) -> Prescreen:
    """Return the prescreen, with reference phases relaxed by both potentials."""
    relaxing, confirming = PotentialSettings(name="chgnet"), PotentialSettings(name="sevennet-0")
    phases = reference_phases(("Mg", "Mn", "O"))
    hulls = [
        Relaxations(
            settings, journal=folder / f"{settings.name}.jsonl", n_processes=n_processes
        ).references(phases)
        for settings in (relaxing, confirming)
    ]
    rules = Prescreen(
        relaxing=relaxing,
        confirming=confirming.model_copy(update={"max_steps": 20}),
        references=hulls[0],
        confirming_references=hulls[1],
        window=max(WINDOWS),
        audit=0.0,
        recall=RECALL,
    )
    if rules.rule is None:
        raise SystemExit("no stopping rule was calibrated; see benchmarks/stopping.py")
    return rules


def prescreened(name: str, sampled: Sequence[Sampled], rules: Prescreen, n_processes: int) -> Run:
    """Run overlap removal and the prescreen on raw samples."""
    # The process that workers are forked from is charged to every run.
    began, wall = cpu_seconds() - waiting_seconds(), time.monotonic()
    proposals = proposed(name, sampled)
    declash_seconds = (cpu_seconds() - began) / len(sampled)
    screened = rules.run(proposals, n_processes=n_processes, on_progress=print_progress)
    spent = cpu_seconds() - began
    outcomes = [_outcome(proposal, declash_seconds) for proposal in screened.proposals]
    return Run(name, outcomes, spent, time.monotonic() - wall)


def proposed(name: str, sampled: Sequence[Sampled]) -> list[Proposal]:
    """Return raw samples without overlaps as proposals, as in a campaign before the prescreen."""
    declashed = declash(
        [sample.raw for sample in sampled],
        scales=name != ProposerName.SUBSTITUTION,
        shrinks_loose=name in (ProposerName.RANDOM, ProposerName.SYMMETRIC),
    ).structures
    return [
        Proposal(
            candidate_id=f"{i:04d}",
            structure=structure,
            origin=Origin(proposer="gan", requested_composition=sample.composition, index=i),
        )
        for i, (sample, structure) in enumerate(zip(sampled, declashed, strict=True))
    ]


def _outcome(proposal: Proposal, declash_seconds: float) -> Outcome:
    verdict = proposal.prescreen or PrescreenVerdict()
    confirmation = verdict.confirmation
    return Outcome(
        energy=verdict.decomposition_energy if proposal.survives else None,
        seconds=declash_seconds
        + (verdict.cpu_seconds or 0)
        + (confirmation.cpu_seconds if confirmation else 0),
        steps=verdict.n_steps or 0,
        status=str(verdict.rejected_at or "confirmed"),
    )


def straightforward(
    sampled: Sequence[Sampled], rules: Prescreen, folder: Path, n_processes: int
) -> Run:
    """Relax each raw sample in one job, then count unique, confirmed crystals."""
    wall = time.monotonic()
    done = jobs(sampled, folder / "jobs.jsonl", n_processes)
    wall = time.monotonic() - wall
    outcomes = [Outcome(None, *_spent(done[i])) for i in range(len(sampled))]
    relaxed: list[tuple[float, int, Structure]] = []
    for i, outcome in enumerate(outcomes):
        if not (done[i] and done[i]["structure"]):
            outcome.status = str(ScreeningStep.RELAXATION)
            continue
        structure = Structure.from_dict(done[i]["structure"])
        energy = rules.references.decomposition_energy(structure.composition, done[i]["energy"])
        if check_geometry(structure) is not None or energy < LOWEST_PLAUSIBLE:
            outcome.status = str(ScreeningStep.GEOMETRY)
        elif energy > rules.window:
            outcome.status = str(ScreeningStep.WINDOW)
        else:
            relaxed.append((energy, i, structure))
    unique = UniqueStructures()
    for energy, i, structure in sorted(relaxed, key=lambda entry: entry[:2]):
        if not unique.add(structure):
            outcomes[i].status = str(ScreeningStep.RELAXED_DUPLICATE)
        elif not is_confirmed(structure, energy, rules):
            outcomes[i].status = str(ScreeningStep.CONFIRMATION)
        else:
            outcomes[i].energy, outcomes[i].status = energy, "confirmed"
    seconds = sum(outcome.seconds for outcome in outcomes)
    return Run("one job each", outcomes, seconds, wall)


def jobs(sampled: Sequence[Sampled], journal: Path, n_processes: int) -> dict[int, Any]:
    """Relax each raw sample in one job; jobs in the journal of an earlier run are not repeated."""
    names = [content_hash("raw", sample.raw) for sample in sampled]
    kept: dict[str, Any] = {}
    if journal.exists():
        lines = journal.read_text(encoding="utf-8").splitlines()
        kept = {entry["raw"]: entry["result"] for entry in map(json.loads, lines)}
    done = {i: kept[name] for i, name in enumerate(names) if name in kept}
    ratio = slowdown(sampled, done, n_processes)
    for result in filter(None, done.values()):
        result["seconds"] *= ratio
    work = {i: (sample.raw,) for i, sample in enumerate(sampled) if i not in done}
    with journal.open("a", encoding="utf-8") as file:
        for number, result in run_in_processes(force_field_job, work, n_processes):
            done[number] = result
            file.write(json.dumps({"raw": names[number], "result": result}) + "\n")
            file.flush()
            print_progress(len(done), len(sampled))
    return done


def slowdown(sampled: Sequence[Sampled], done: dict[int, Any], n_processes: int) -> float:
    """Run some jobs of an earlier run again, and return the ratio of the times, now to before."""
    if not done:
        return 1.0
    repeated = np.random.default_rng(0).permutation(sorted(done))[:N_REPEATED].tolist()
    work = {i: (sampled[i].raw,) for i in repeated if done[i]}
    now = dict(run_in_processes(force_field_job, work, n_processes))
    both = [(now[i]["seconds"], done[i]["seconds"]) for i in work if now[i]]
    ratio = float(np.sum(both, axis=0)[0] / np.sum(both, axis=0)[1])
    print(
        f"{len(done)} jobs are from an earlier run; {len(both)} of them take {ratio:.2f} times as "
        "long now, and the times of all are scaled by this factor"
    )
    return ratio


def _spent(result: dict[str, Any] | None) -> tuple[float, int, str]:
    return (result["seconds"], result["steps"], "") if result else (0.0, 0, "")


def force_field_job(structure: Structure) -> dict[str, Any]:
    """Run a job of atomate2 with the settings of its tutorial."""
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker  # noqa: PLC0415 - slow
    from jobflow import JobStore  # noqa: PLC0415
    from maggma.stores import MemoryStore  # noqa: PLC0415

    warnings.filterwarnings("ignore")
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    began = time.process_time()
    result: dict[str, Any] = {"structure": None, "energy": None, "steps": 0}
    try:
        # It leaves files where it runs.
        with TemporaryDirectory() as folder, contextlib.chdir(folder):
            document = (
                ForceFieldRelaxMaker(force_field_name="CHGNet").make(structure).run(store).output
            )
        result |= {
            "structure": jsanitize(document.output.structure.as_dict()),
            "energy": float(document.output.energy_per_atom),
            "steps": document.output.n_steps,
        }
    except Exception as error:  # noqa: BLE001 - a failed relaxation is a result
        result["error"] = str(error)[:200]
    return result | {"seconds": time.process_time() - began}


def is_confirmed(structure: Structure, energy: float, rules: Prescreen) -> bool:
    """Return whether the second potential confirms a structure, as in the prescreen."""
    agreement = rules.agreement(structure.composition, energy)
    relaxation = relax(structure, rules.confirming, stop=agreement)
    return (
        relaxation.relaxed is not None
        and agreement.refusal(relaxation.relaxed.energy_per_atom) is None
    )


def cpu_seconds() -> float:
    """Return the processor time of this process and its children, after those that end."""
    while multiprocessing.active_children():
        time.sleep(0.05)
    times = [process.cpu_times() for process in (_SELF, *_SELF.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def waiting_seconds() -> float:
    """Return the start-up time of the idle worker processes."""
    times = [process.cpu_times() for process in _SELF.children(recursive=True)]
    return sum(t.user + t.system for t in times)


def print_progress(done: int, total: int) -> None:
    """Print the number of finished structures."""
    print(f"\r{done} of {total}", end="" if done < total else "\n", flush=True)
