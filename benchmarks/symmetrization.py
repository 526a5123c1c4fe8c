"""Count space groups P1 before and after relaxations, with and without symmetrized copies.

    OMP_NUM_THREADS=1 python benchmarks/symmetrization.py --samples 62 --proposer gan

relaxes samples of a proposer (Mg-Mn-O, 31 compositions) with CHGNet in one process, each with and
without symmetrized copies, starting from the structure that the prescreen would relax. Space groups
are those of spglib at 0.1 and 0.01 A.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import Counter

import numpy as np
from samples import samples

from gan_htvs.core.stages import ProposerName
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax
from gan_htvs.results.space_groups import P1
from gan_htvs.structures.symmetry import SYMPREC, TIGHT_SYMPREC, symmetrize, symmetry_of

SEED = 2020
SETTINGS = PotentialSettings(name="chgnet", max_steps=200)
PLAIN = SETTINGS.model_copy(update={"symmetry_tolerances": ()})


def main() -> None:
    """Relax, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=62, help="(default: 62)")
    parser.add_argument("--proposer", type=ProposerName, default=ProposerName.GAN)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    proposed = [s.declashed for s in samples(args.proposer, args.samples, seed=SEED)]
    starts = [symmetrize(structure, SYMPREC) for structure in proposed]
    relax(starts[0], SETTINGS)  # loads the potential
    pairs = []
    for i, start in enumerate(starts):
        # The order alternates, so that neither is always the second.
        order = (PLAIN, SETTINGS)[:: -1 if i % 2 else 1]
        results = {bool(settings.symmetry_tolerances): relax(start, settings) for settings in order}
        if results[False].relaxed is not None and results[False].relaxed.converged:
            pairs.append((proposed[i], results[False], results[True]))
    n = len(pairs)
    print(f"{args.proposer}: {n} of {len(proposed)} relaxations converged")
    columns = {
        "as proposed": [structure for structure, _, _ in pairs],
        "relaxed": [plain.relaxed.structure for _, plain, _ in pairs],
        "with symmetrized copies": [tried.relaxed.structure for _, _, tried in pairs],
    }
    share = {}
    for title, structures in columns.items():
        for symprec in (SYMPREC, TIGHT_SYMPREC):
            numbers = [symmetry_of(structure, symprec).number for structure in structures]
            share[title, symprec] = numbers.count(P1)
            print(f"  P1 at {symprec:4g} A, {title}: {numbers.count(P1)} of {n}")
    kept = [tried.relaxed.symmetrization for _, _, tried in pairs]
    kept = [change for change in kept if change is not None]
    print(f"  copies kept by tolerance, A: {dict(Counter(change.tolerance for change in kept))}")
    changes = 1000 * np.array([change.energy_change for change in kept])
    moves = np.array([change.max_displacement for change in kept])
    if kept:
        print(
            f"  energy: {changes.min():.2f} to {changes.max():+.2f} meV/atom, median "
            f"{np.median(changes):+.2f}; largest displacement {moves.max():.2f} A, median "
            f"{np.median(moves):.3f}; {np.mean([change.n_steps for change in kept]):.1f} steps"
        )
    plain, tried = (sum(pair[i].cpu_seconds for pair in pairs) for i in (1, 2))
    print(f"  processor time: {plain:.1f} s, with copies {tried:.1f} s ({tried / plain - 1:+.1%})")
    print(
        json.dumps(
            {
                "claim": f"relaxed structures of {args.proposer} with space group P1 at 0.01 A",
                "value": share["with symmetrized copies", TIGHT_SYMPREC],
                "unit": f"of {n}",
                "baseline": share["relaxed", TIGHT_SYMPREC],
                "ratio": round(tried / plain, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
