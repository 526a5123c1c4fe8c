"""Count new crystals that each way to propose structures finds, per structure and per core-hour.

    OMP_NUM_THREADS=1 python benchmarks/discovery.py --per-composition 10 --output discovery

searches the 31 compositions of ``samples.py`` (Mg-Mn-O) from scratch with every method: samples are
prescreened with CHGNet and confirmed by SevenNet-0, with early stopping at 0.1 eV/atom above the
hull. A new crystal is confirmed, matches no training structure, no reference phase and no earlier
crystal of the same method. Its energy is that of CHGNet relative to the hull of the reference
phases. New crystals on or below this hull are also relaxed with SevenNet-l3i5.

The cost is the processor time of sampling, single points, relaxations, confirmations and trainings
between rounds; training before the search is not part of it. Relaxations are kept in ``--output``,
so an interrupted run resumes and a larger one extends it. The table, all structures
(``discovery.json``) and the curve of new crystals against core-hours (``discovery.png``) are
written there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from pymatgen.analysis.ewald import EwaldSummation
from samples import OXIDATION_STATES, SYSTEM, compositions

from gan_htvs.campaign.model import SHIPPED_GENERATOR, DatasetSettings, structures_in_round
from gan_htvs.core.candidate import Origin, Proposal
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import ProposerName, ScreeningStep
from gan_htvs.core.statistics import Share
from gan_htvs.dataset.enlarging import enlarge, sound_structures
from gan_htvs.dataset.ions import Ions
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.checkpoint import load
from gan_htvs.generator.training import train
from gan_htvs.potentials.relaxation import RelaxationCache, Relaxations
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.single_points import single_point_energies
from gan_htvs.prescreen.prescreen_settings import CONFIRMATION_STEPS
from gan_htvs.prescreen.screening import Prescreen
from gan_htvs.proposers.proposer import make_proposer
from gan_htvs.proposers.sampling import BestOf, sample
from gan_htvs.structures.matching import UniqueStructures
from gan_htvs.thermodynamics.references import reference_phases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from gan_htvs.core.candidate import Screened
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.structures.matching import StructureIndex

WINDOW = 0.1
"""Largest energy above hull of the prescreen, eV/atom: stable enough in generator benchmarks."""
LIMITS = (0.1, 0.08, 0.04, 0.0)
"""Limits of counted energies relative to the hull, eV/atom; the second is that of the claim."""
CLAIMED = 0.08
CHGNET = PotentialSettings(name="chgnet", max_steps=200)
CONFIRMING = PotentialSettings(name="sevennet-0", max_steps=CONFIRMATION_STEPS)
THIRD = PotentialSettings(name="sevennet-l3i5")
MAX_TRIES = 400
"""Largest number of raw samples per kept structure."""
N_ROUNDS, ROUND_STEPS = 4, 500
"""Rounds of the method with rounds, and training steps between them."""
MAX_STRUCTURES = 4000
"""Largest training set of later rounds."""


@dataclass(frozen=True)
class Method:
    """A way to propose structures.

    Attributes
    ----------
    proposer
        Source of raw samples.
    best_of
        Samples for each one that is relaxed, the one of lowest energy.
    by_ewald
        Whether this energy is electrostatic (formal charges) instead of a CHGNet single point.
    skip_known
        Whether samples that match a training structure, a reference phase or a crystal of an
        earlier round are dropped.
    rounds
        Number of rounds; after each one, the generator is trained on what was found.
    """

    proposer: ProposerName
    best_of: int = 1
    by_ewald: bool = False
    skip_known: bool = False
    rounds: int = 1


METHODS = {
    "random": Method(ProposerName.RANDOM),
    "random, best of 16 by Ewald energy": Method(ProposerName.RANDOM, 16, by_ewald=True),
    "random, best of 8": Method(ProposerName.RANDOM, 8, skip_known=True),
    "symmetric": Method(ProposerName.SYMMETRIC),
    "substitution": Method(ProposerName.SUBSTITUTION),
    "generator": Method(ProposerName.GAN),
    "generator, best of 8": Method(ProposerName.GAN, 8, skip_known=True),
    "generator, best of 8, rounds": Method(ProposerName.GAN, 8, skip_known=True, rounds=N_ROUNDS),
}
BASELINE, CLAIM = "random", "generator, best of 8"


@dataclass
class Search:
    """Results of one method, by structure in the order in which they were relaxed.

    Attributes
    ----------
    compositions, rejected_at
        Requested composition, and the step of the prescreen that rejected the structure.
    energies, second_energies
        Of CHGNet and SevenNet-0 relative to the hull, eV/atom; None for rejected structures.
    new
        Whether it is a new crystal.
    seconds
        Processor time of sampling, relaxation and confirmation.
    training_seconds
        Processor time of trainings between rounds.
    """

    name: str
    compositions: list[str] = field(default_factory=list)
    rejected_at: list[str | None] = field(default_factory=list)
    energies: list[float | None] = field(default_factory=list)
    second_energies: list[float | None] = field(default_factory=list)
    new: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    training_seconds: float = 0.0

    def found(self, limit: float) -> NDArray[np.bool_]:
        """Return whether each structure is a new crystal within a limit, (n,)."""
        energies = np.array([np.inf if e is None else e for e in self.energies])
        return np.array(self.new) & (energies <= limit)

    def share(self, limit: float) -> Share:
        """Return the share of new crystals within a limit."""
        return Share(k=int(self.found(limit).sum()), n=len(self.new))

    def per_core_hour(self, limit: float) -> float:
        """Return the number of new crystals within a limit per core-hour."""
        return float(self.found(limit).sum() * 3600 / self.total_seconds)

    @property
    def total_seconds(self) -> float:
        """Processor time of the search, with trainings."""
        return sum(self.seconds) + self.training_seconds


def main() -> None:
    """Search with all methods; write the results, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-composition", type=int, default=10, help="structures (default: 10)")
    parser.add_argument("--generator", type=Path, default=SHIPPED_GENERATOR, help="checkpoint")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--processes", type=int, default=1, help="cores (default: 1)")
    parser.add_argument("--seed", type=int, default=2020, help="(default: 2020)")
    parser.add_argument("--output", type=Path, default=Path("discovery"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    args.output.mkdir(parents=True, exist_ok=True)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")

    phases = reference_phases(SYSTEM.elements)
    dataset = build_dataset(SYSTEM, OXIDATION_STATES, DatasetSettings(source="shipped"))
    training = dataset.split(0.1)[0].structures()
    known = [*training, *(phase.structure for phase in phases)]
    on_hull: dict[str, list[Structure]] = {}
    hulls = {
        settings.name: Relaxations(
            settings, journal=args.output / f"references-{settings.name}.jsonl"
        ).references(phases)
        for settings in (CHGNET, CONFIRMING, THIRD)
    }
    rules = Prescreen(
        relaxing=CHGNET,
        confirming=CONFIRMING,
        references=hulls["chgnet"],
        confirming_references=hulls["sevennet-0"],
        window=WINDOW,
        audit=0.0,
    )
    trained = load(args.generator, system=SYSTEM)
    searches = []
    for name in args.methods:
        cache = RelaxationCache(args.output / f"{name.replace(' ', '-').replace(',', '')}.jsonl")
        cache.hold()
        searching = Searching(name, rules, known, cache, args.processes)
        generator, rounds = trained, METHODS[name].rounds
        training_set = dataset.split(0.1)[0]
        for number in range(1, rounds + 1):
            n = structures_in_round(args.per_composition, rounds, number)
            # The samples of the first round are those of a search without rounds.
            seed = args.seed + number - 1
            screened = searching.add(*propose(name, generator, searching.index, n, seed))
            if number < rounds:
                began = time.process_time()
                training_set, generator = learn(training_set, generator, screened, number)
                searching.results.training_seconds += time.process_time() - began
        searches.append(searching.results)
        on_hull[name] = searching.on_hull
        print_table(searches[-1:])
    print_table(searches)
    third = Relaxations(THIRD, journal=args.output / "third.jsonl", n_processes=args.processes)
    confirmed = {}
    for name, structures in on_hull.items():
        energies = [
            hulls[THIRD.name].decomposition_energy(
                relaxed.structure.composition, relaxed.energy_per_atom
            )
            if relaxed is not None and relaxed.converged
            else None
            for relaxed in third.relax(structures)
        ]
        confirmed[name] = energies
        listed = ", ".join(
            f"{structure.composition.reduced_formula} "
            + ("failed" if energy is None else f"{1000 * energy:.0f}")
            for structure, energy in zip(structures, energies, strict=True)
        )
        print(
            f"{name}: on or below the hull of CHGNet and SevenNet-0, with the energy of "
            f"SevenNet-l3i5, meV/atom: {listed or 'none'}"
        )
    document = {
        "generator": trained.content_sha256,
        "seed": args.seed,
        "searches": [asdict(one) for one in searches],
        "third_potential": confirmed,
    }
    (args.output / "discovery.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    draw(searches, args.output / "discovery.png")
    print_claim({one.name: one for one in searches})


def propose(
    name: str,
    trained: TrainedGenerator,
    known: StructureIndex,
    n: int,
    seed: int,
) -> tuple[list[Proposal], list[float]]:
    """Sample ``n`` structures of each composition; return them in turns, and seconds of each."""
    method = METHODS[name]
    proposer = make_proposer(method.proposer, SYSTEM, OXIDATION_STATES, trained)
    best_of = None
    if method.best_of > 1:
        energies = (
            ewald_energies if method.by_ewald else partial(single_point_energies, potential=CHGNET)
        )
        best_of = BestOf(method.best_of, energies)
        single_point_energies([], CHGNET)  # loads the potential, which is not charged
    by_composition = []
    for counts in compositions():
        began = time.process_time()
        sampled = sample(
            proposer,
            counts,
            n,
            seed=seed,
            max_tries_per_structure=MAX_TRIES,
            best_of=best_of,
            known=known if method.skip_known else None,
        )
        seconds = (time.process_time() - began) / max(len(sampled.samples), 1)
        formula = SYSTEM.formula(counts)
        by_composition.append(
            [
                (
                    Proposal(
                        candidate_id=f"c{content_hash(name, seed, formula, one.index)[:15]}",
                        structure=one.structure,
                        origin=Origin(
                            proposer=method.proposer, requested_composition=formula, index=i
                        ),
                    ),
                    seconds,
                )
                for i, one in enumerate(sampled.samples)
            ]
        )
    in_turns = [proposed[i] for i in range(n) for proposed in by_composition if i < len(proposed)]
    return [proposal for proposal, _ in in_turns], [seconds for _, seconds in in_turns]


def ewald_energies(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Compute electrostatic energies of formal charges, eV/atom."""
    ions = Ions(SYSTEM, OXIDATION_STATES)
    energies = []
    for structure in structures:
        charges = ions.formal_charges(SYSTEM.counts(structure)).tolist()
        charged = structure.copy()
        charged.add_oxidation_state_by_element(dict(zip(SYSTEM.elements, charges, strict=True)))
        energies.append(EwaldSummation(charged).total_energy / len(structure))
    return np.array(energies)


class Searching:
    """A search in progress.

    Attributes
    ----------
    results
        Results so far.
    index
        Known crystals and those found so far.
    on_hull
        New crystals on both hulls.
    """

    def __init__(
        self,
        name: str,
        rules: Prescreen,
        known: Sequence[Structure],
        cache: RelaxationCache,
        n_processes: int,
    ) -> None:
        self.rules, self.cache = rules, cache
        self.n_processes = n_processes if n_processes > 1 else None
        self.results = Search(name)
        self.index = UniqueStructures(known)
        self.on_hull: list[Structure] = []

    def add(self, proposals: Sequence[Proposal], seconds: Sequence[float]) -> Screened:
        """Prescreen structures, whose sampling took ``seconds`` each."""
        screened = self.rules.run(
            proposals,
            self.cache,
            n_processes=self.n_processes,
            on_progress=progress_of(self.results.name),
        )
        for proposal, sampling in zip(screened.proposals, seconds, strict=True):
            self._count(proposal, sampling)
        return screened

    def _count(self, proposal: Proposal, sampling: float) -> None:
        results = self.results
        verdict, relaxation = proposal.prescreen, proposal.relaxation
        relaxed = relaxation and relaxation.relaxed
        is_new = proposal.survives and relaxed is not None and self.index.add(relaxed.structure)
        second = verdict.confirmation
        results.compositions.append(proposal.origin.requested_composition)
        results.rejected_at.append(verdict.rejected_at and str(verdict.rejected_at))
        results.energies.append(verdict.decomposition_energy if proposal.survives else None)
        results.second_energies.append(second and second.decomposition_energy)
        results.new.append(is_new)
        results.seconds.append(
            sampling + (verdict.cpu_seconds or 0.0) + (second.cpu_seconds if second else 0.0)
        )
        if is_new and verdict.decomposition_energy <= 0 and second.decomposition_energy <= 0:
            self.on_hull.append(relaxed.structure)


def learn(
    dataset: Dataset, generator: TrainedGenerator, screened: Screened, number: int
) -> tuple[Dataset, TrainedGenerator]:
    """Train a generator further on the structures that a round found, as a campaign does."""
    found = sound_structures(screened.proposals)
    enlarged = enlarge(dataset, found, max_energy_above_hull=WINDOW, max_structures=MAX_STRUCTURES)
    larger = enlarged.dataset
    trained = train(
        larger.images,
        larger.counts,
        SYSTEM,
        generator.parameters,
        max_steps=ROUND_STEPS,
        seed=number,
        weights=larger.boltzmann_weights(generator.parameters.energy_scale),
        start=generator,
    )
    print(f"round {number}: {enlarged.n_new} of {len(found)} structures join the training set")
    return larger, trained


def progress_of(name: str) -> Callable[[int, int], None]:
    """Return a function that prints the progress of a method at most every minute."""
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 60:  # noqa: PLR2004
            last = time.monotonic()
            print(f"{name}: {done} of {total}", flush=True)

    return show


def print_table(searches: Sequence[Search]) -> None:
    """Print new crystals, stable structures and the cost of each method."""
    print(
        f"\n{'method':36} {'relaxed':>7} {'known or twice':>14} {'core-s each':>11}"
        + "".join(f" {f'new <= {limit:g}':>12}" for limit in LIMITS)
        + f" {f'per core-hour <= {CLAIMED:g}':>24}"
    )
    for one in searches:
        survivors = sum(energy is not None for energy in one.energies)
        duplicates = sum(
            step in (str(ScreeningStep.DUPLICATE), str(ScreeningStep.RELAXED_DUPLICATE))
            for step in one.rejected_at
        )
        counts = "".join(
            f" {one.share(limit).k:>5} {100 * (one.share(limit).value or 0):>4.1f} %"
            for limit in LIMITS
        )
        print(
            f"{one.name:36} {len(one.new):>7} {survivors - sum(one.new) + duplicates:>14} "
            f"{one.total_seconds / len(one.new):>11.2f}{counts} "
            f"{one.per_core_hour(CLAIMED):>24.0f}",
            flush=True,
        )


def draw(searches: Sequence[Search], path: Path) -> None:
    """Draw the number of new crystals against core-hours."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for one in searches:
        # The time of trainings is spread evenly.
        hours = np.cumsum(one.seconds) * one.total_seconds / sum(one.seconds) / 3600
        axes.plot(hours, np.cumsum(one.found(CLAIMED)), label=one.name)
    axes.set_xlabel("core-hours")
    axes.set_ylabel(f"new crystals within {1000 * CLAIMED:g} meV/atom")
    axes.legend()
    figure.savefig(path, dpi=150)


def print_claim(searches: dict[str, Search]) -> None:
    """Print the line of JSON, if both methods were run."""
    if not {BASELINE, CLAIM} <= searches.keys():
        return
    value, baseline = (searches[name].per_core_hour(CLAIMED) for name in (CLAIM, BASELINE))
    shares = [searches[name].share(CLAIMED).value or 0.0 for name in (CLAIM, BASELINE)]
    if not baseline:
        print(f"{BASELINE}: no new crystal, so there is no ratio")
        return
    print(
        json.dumps(
            {
                "claim": f"new crystals within {CLAIMED} eV/atom, {CLAIM}, against {BASELINE}",
                "value": round(value),
                "unit": "per core-hour",
                "baseline": round(baseline),
                "ratio": round(value / baseline, 2),
                "ratio_per_structure": round(shares[0] / shares[1], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
