"""Provenance of a candidate: its origin, relaxations, results, rejection and jobs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from gan_htvs.builders.documents import mapping
from gan_htvs.candidate import RelaxedStructure, Step
from gan_htvs.documents import decode, encode
from gan_htvs.errors import UserError
from gan_htvs.relaxer import RelaxationResult
from gan_htvs.store import CandidateStore
from launchers.console import out
from launchers.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gan_htvs.candidate import Candidate, Origin, PrescreenVerdict
    from launchers.database import Databases
    from launchers.launchpad import Launched

BLOCKS = "▁▂▃▄▅▆▇█"
LONGEST_SPARKLINE = 60
"""Characters; of longer curves some steps are left out."""

NO_MOVE = 0.005
"""Moves that round to 0.00 A."""

Line = tuple[str, str]
"""A quantity, and its value in words."""


@dataclass(frozen=True)
class History:
    """A candidate, its relaxations and its jobs.

    Attributes
    ----------
    candidate
        As it was built last.
    jobs
        Those that made it, from its sampling on.
    relaxation
        That in the prescreen; None where there was none.
    relaxed
        What its gate assessed; None: it was not evaluated.
    """

    candidate: Candidate
    jobs: list[Launched]
    relaxation: RelaxationResult | None = None
    relaxed: RelaxedStructure | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the candidate's document with both relaxations and the jobs in it."""
        more = {"relaxation": self.relaxation, "relaxed": self.relaxed}
        return (
            encode(self.candidate)
            | {key: each and encode(each) for key, each in more.items()}
            | {"jobs": [job._asdict() for job in self.jobs]}
        )


def read_history(databases: Databases, candidate_id: str) -> History:
    """Read what is known of a candidate.

    Parameters
    ----------
    databases
        Where it is.
    candidate_id
        All 16 digits.

    Raises
    ------
    UserError
        If there is no such candidate.
    """
    store = databases.store("candidates", key="candidate_id")
    candidate = CandidateStore(store).get(candidate_id)
    if candidate is None:
        raise UserError(
            f"there is no candidate {candidate_id!r}; `gan-htvs build` adds what was computed "
            "lately, `gan-htvs candidates --format csv` lists all."
        )
    mine = {"metadata.campaign": candidate.campaign}
    with databases.store("outputs", key="uuid") as outputs:
        gates = outputs.query(
            mine | {"metadata.step": Step.GATE.value, "metadata.candidate_id": candidate_id},
            ["output.relaxed"],
            sort={"completed_at": 1},
        )
        *_, judged = [None, *(mapping(gate).get("relaxed") for gate in gates)]
        samples = outputs.query(
            mine
            | {
                "metadata.step": Step.PROPOSE.value,
                "output.proposals.candidate_id": candidate_id,
            },
            ["uuid"],
        )
        batches = list(
            outputs.query(
                mine
                | {
                    "metadata.step": Step.PRESCREEN.value,
                    "output.screened.verdict.candidate_id": candidate_id,
                },
                ["uuid", "output.screened"],
                sort={"completed_at": 1},
            )
        )
        uuids = [document["uuid"] for document in (*samples, *batches)]
    relaxations = [
        screened.get("relaxation")
        for batch in batches
        for screened in batch["output"]["screened"]
        if screened["verdict"]["candidate_id"] == candidate_id
    ]
    *_, relaxation = [None, *relaxations]
    jobs = databases.launchpad().launched(candidate.campaign, candidate_id, uuids)
    return History(
        candidate,
        jobs,
        RelaxationResult.model_validate(decode(relaxation)) if relaxation else None,
        RelaxedStructure.model_validate(decode(judged)) if judged else None,
    )


def print_history(history: History) -> None:
    """Print the provenance of a candidate as a table of two columns."""
    candidate = history.candidate
    table = Table(
        title=f"{candidate.formula_pretty} {candidate.candidate_id} of {candidate.campaign}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=False,
    )
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for what, words in lines(history):
        table.add_row(what, escape(words))
    out.print(table)


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a line of blocks, the lowest of them empty but for its base."""
    if not values:
        return ""
    chosen = np.asarray(values, dtype=float)
    if len(chosen) > LONGEST_SPARKLINE:
        chosen = chosen[np.linspace(0, len(chosen) - 1, LONGEST_SPARKLINE).round().astype(int)]
    low, high = float(chosen.min()), float(chosen.max())
    heights = (chosen - low) / (high - low or 1.0) * (len(BLOCKS) - 1)
    return "".join(BLOCKS[height] for height in heights.round().astype(int))


def lines(history: History) -> Iterator[Line]:
    """List what is known, from its origin to the jobs that made it."""
    candidate = history.candidate
    yield "stage", candidate.stage.value
    if candidate.reason:
        yield "reason", candidate.reason
    yield "origin", _origin(candidate.origin)
    if candidate.origin.checkpoint is not None:
        yield "checkpoint", f"sha256 {candidate.origin.checkpoint}"
    if (push := _push(candidate.origin)) is not None:
        yield "push", push
    if candidate.prescreen is not None:
        yield from _prescreen(candidate.prescreen, history.relaxation)
    if history.relaxation is not None:
        yield from _relaxation(history.relaxation)
    relaxed = history.relaxed
    if relaxed is None and history.relaxation is not None:
        relaxed = history.relaxation.relaxed
    if relaxed is not None:
        yield from _relaxed(relaxed)
    yield from _results(candidate)
    for job in history.jobs:
        state = "" if job.state == "COMPLETED" else f", {job.state.lower()}"
        yield f"job {job.fw_id}", f"{job.step}{state}: {job.folder or 'not launched yet'}"


def _origin(origin: Origin) -> str:
    told = f"{origin.proposer}, {origin.requested_composition}"
    if origin.seed is not None:
        told += f", sample {origin.index} of seed {origin.seed}"
    return told


def _push(origin: Origin) -> str | None:
    if origin.is_remade:
        return "nothing of the sample is left"
    if origin.max_displacement is None:
        return None
    if origin.max_displacement < NO_MOVE:
        return "moved no atom"
    return f"moved an atom by up to {origin.max_displacement:.2f} A"


def _prescreen(prescreen: PrescreenVerdict, relaxation: RelaxationResult | None) -> Iterator[Line]:
    n_steps = prescreen.n_steps
    if n_steps is None and relaxation is not None and relaxation.curve.energies:
        n_steps = len(relaxation.curve.energies) - 1
    after = "" if n_steps is None else f", after {counted(n_steps, 'step')}"
    left = "survived" if prescreen.rejected_at is None else f"left at: {prescreen.rejected_at}"
    yield "prescreen", left + after
    if prescreen.is_audited:
        would = prescreen.would_stop_at
        told = "never" if would is None else f"at step {would}"
        yield "audited", f"early stopping would have ended it {told}"
    if prescreen.duplicate_of:
        yield "duplicate of", prescreen.duplicate_of
    energy = relaxation.relaxed.energy_per_atom if relaxation and relaxation.relaxed else None
    if prescreen.energy_above_hull is not None or energy is not None:
        yield str(prescreen.level_of_theory), _energies(energy, prescreen.energy_above_hull)
    if (second := prescreen.confirmation) is not None:
        energies = _energies(second.energy_per_atom, second.energy_above_hull)
        steps = counted(second.n_steps, "step")
        yield (
            second.level_of_theory,
            f"{energies}; disagreement {second.disagreement:+.3f} eV/atom, after {steps}",
        )


def _relaxation(relaxation: RelaxationResult) -> Iterator[Line]:
    curve = relaxation.curve
    for what, unit, values in (
        ("energy", "eV/atom", curve.energies),
        ("largest force", "eV/A", curve.max_forces),
        ("volume", "A^3/atom", curve.volumes),
    ):
        if values:
            yield what, f"{values[0]:.3f} {sparkline(values)} {values[-1]:.3f} {unit}"


def _relaxed(relaxed: RelaxedStructure) -> Iterator[Line]:
    if relaxed.volume_change is not None:
        yield "volume change", f"{100 * relaxed.volume_change:+.1f} %"
    if relaxed.magmoms is not None:
        yield "moments", _moments(relaxed)


def _moments(relaxed: RelaxedStructure) -> str:
    of_element = defaultdict(list)
    for site, moment in zip(relaxed.structure, relaxed.magmoms or (), strict=True):
        of_element[site.specie.symbol].append(moment)
    told = "; ".join(
        f"{symbol} {' '.join(f'{moment:.2f}' for moment in moments)}"
        for symbol, moments in of_element.items()
    )
    return f"{told} ({sum(map(sum, of_element.values())):.1f} in all), Bohr magnetons"


def _results(candidate: Candidate) -> Iterator[Line]:
    if candidate.level_of_theory is not None:
        energies = _energies(candidate.energy_per_atom, candidate.energy_above_hull)
        yield f"{candidate.level_of_theory}, final", f"{energies}, other candidates included"
    if candidate.energy_incomplete is not None:
        yield "energy incomplete", candidate.energy_incomplete
    if candidate.oxidation_states is not None and candidate.oxidation_states.average:
        states = candidate.oxidation_states.average
        yield (
            "oxidation states",
            ", ".join(f"{symbol} {state:+.2f}" for symbol, state in states.items()),
        )
    if candidate.pourbaix is not None:
        yield "in water", f"{candidate.pourbaix.minimum:.3f} eV/atom at the best pH"
    yield from _band_gap(candidate)
    if candidate.duplicate_of is not None:
        yield "lowest of its crystal", candidate.duplicate_of


def _band_gap(candidate: Candidate) -> Iterator[Line]:
    gap = candidate.band_gap
    if gap is None:
        gap = candidate.incomplete_band_gap
    if gap is not None:
        method = f" ({candidate.band_gap_method})" if candidate.band_gap_method else ""
        yield "band gap", f"{gap:.2f} eV{method}"
    if candidate.incomplete_band_gap is not None:
        yield "band gap incomplete", str(candidate.band_gap_reason)
    for order in candidate.band_gap_result.magnetic_orders if candidate.band_gap_result else ():
        if order.energy_per_atom is None:
            words = f"{'skipped' if order.is_skipped else 'missing'}: {order.reason}"
        else:
            words = f"{order.order}, {order.energy_per_atom:.3f} eV/atom"
        yield f"magnetic order {order.start}", words


def _energies(energy: float | None, above: float | None) -> str:
    """Tell an energy and its distance from the hull, eV/atom."""
    told = [] if energy is None else [f"{energy:.3f} eV/atom"]
    told += [] if above is None else [f"{above:z.3f} eV/atom above hull"]
    return ", ".join(told) or "no energy"
