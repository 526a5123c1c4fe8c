"""Provenance of a candidate: its origin, relaxations, results, rejection and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_htvs.core.candidate import RelaxationResult, RelaxedStructure
from gan_htvs.core.document import decode, encode, output_of
from gan_htvs.core.errors import UserError
from gan_htvs.core.shares import round_shares
from gan_htvs.core.stages import Step
from gan_htvs.results.caveats import caveats_of, caveats_of_campaign
from gan_htvs.results.store import CandidateStore
from gan_htvs.thermodynamics.coverage import incomplete_hull_warning
from launchers.console.quantities import counted
from launchers.launchpad.jobs import UUID
from launchers.launchpad.registry import submissions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gan_htvs.core.candidate import Candidate, PrescreenVerdict, Symmetrization, Symmetry
    from gan_htvs.core.document import Document
    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import QueuedJob

BLOCKS = "▁▂▃▄▅▆▇█"
LONGEST_SPARKLINE = 60
"""Maximum number of characters; longer curves are thinned out."""

FIELDS = ["uuid", "output.relaxed", "output.proposals"]
JOB_FIELDS = ("fw_id", "uuid", "step", "state", "folder")

Line = tuple[str, str]
"""A label and its text, which is empty if the value is missing."""


@dataclass(frozen=True)
class History:
    """A candidate, its relaxations and its jobs.

    Attributes
    ----------
    candidate
        The latest document.
    jobs
        All jobs of the candidate, from the sampling on.
    relaxation
        The relaxation in the prescreen; None without a prescreen.
    relaxed
        The evaluated structure; None if the candidate was not evaluated.
    caveats
        Limits of the methods, error estimates and known weak points of the data.
    """

    candidate: Candidate
    jobs: list[QueuedJob]
    relaxation: RelaxationResult | None = None
    relaxed: RelaxedStructure | None = None
    caveats: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the candidate's document with both relaxations and the jobs."""
        return encode(self.candidate) | {
            "relaxation": self.relaxation and encode(self.relaxation),
            "relaxed": self.relaxed and encode(self.relaxed),
            "caveats": list(self.caveats),
            "jobs": [{name: getattr(job, name) for name in JOB_FIELDS} for job in self.jobs],
        }


def read_history(databases: Databases, candidate_id: str) -> History:
    """Read the provenance of a candidate.

    Parameters
    ----------
    databases
        Databases of candidates, outputs and launchpad.
    candidate_id
        Complete id.

    Raises
    ------
    UserError
        If there is no such candidate.
    """
    candidate = CandidateStore(databases.store("candidates", key="candidate_id")).get(candidate_id)
    if candidate is None:
        raise UserError(
            f"no candidate {candidate_id!r}; run `gan-htvs build` to add the latest results, "
            "or `gan-htvs candidates --format csv` to list all candidates."
        )
    with databases.store("outputs", key="uuid") as outputs:

        def find(step: Step, path: str) -> list[dict[str, Any]]:
            query = {"metadata.campaign": candidate.campaign, "metadata.step": step.value}
            return list(outputs.query(query | {path: candidate_id}, FIELDS, {"completed_at": 1}))

        samples = find(Step.PROPOSE, "output.proposals.candidate_id")
        batches = find(Step.PRESCREEN, "output.proposals.candidate_id")
        gates = find(Step.GATE, "metadata.candidate_id")
    relaxations = [
        proposal.get("relaxation")
        for batch in batches
        for proposal in batch["output"]["proposals"]
        if proposal["candidate_id"] == candidate_id
    ]
    evaluated = [output_of(gate).get("relaxed") for gate in gates]
    uuids = [document["uuid"] for document in samples + batches]
    related = [{"spec.candidate_id": candidate_id}, {UUID: {"$in": uuids}}]
    jobs = databases.launchpad().jobs([candidate.campaign], query={"$or": related})
    return History(
        candidate,
        jobs,
        _latest(RelaxationResult, relaxations),
        _latest(RelaxedStructure, evaluated),
        tuple(_caveats(databases, candidate)),
    )


def _caveats(databases: Databases, candidate: Candidate) -> list[str]:
    """Return the caveats of a candidate and of its campaign, if it is stored."""
    campaigns = {campaign.name: campaign for campaign, _ in submissions(databases)}
    campaign = campaigns.get(candidate.campaign)
    general = caveats_of_campaign(campaign) if campaign else ()
    return [*caveats_of(candidate, campaign), *general]


def _latest(model: type[Document], stored: Sequence[Any]) -> Any:
    return model.model_validate(decode(stored[-1])) if stored and stored[-1] else None


def sparkline(values: Sequence[float]) -> str:
    """Return values as a line of block characters, scaled from the minimum to the maximum."""
    n = len(values)
    points = np.interp(np.linspace(0, n - 1, min(n, LONGEST_SPARKLINE)), range(n), values)
    heights = (points - points.min()) / (np.ptp(points) or 1.0) * (len(BLOCKS) - 1)
    return "".join(BLOCKS[height] for height in heights.round().astype(int))


def lines(history: History) -> list[Line]:
    """Return the provenance as labeled lines, from the origin to the jobs."""
    return [(label, text) for label, text in _lines(history) if text]


def _lines(history: History) -> Iterator[Line]:
    candidate, relaxation, origin = history.candidate, history.relaxation, history.candidate.origin
    relaxed = history.relaxed or (relaxation.relaxed if relaxation else None)
    sample = _text(", sample {} of seed {}", origin.index, origin.seed)
    sample += _text(", round {}", origin.round)
    displacement = _text("moved an atom by up to {:.2f} A", origin.max_displacement)
    yield "stage", candidate.stage
    yield "reason", candidate.reason or ""
    yield "origin", f"{origin.proposer}, {origin.requested_composition}{sample}"
    yield "checkpoint", _text("sha256 {}", origin.checkpoint)
    yield "overlap removal", "replaced all coordinates" if origin.is_remade else displacement
    if candidate.prescreen is not None:
        yield from _prescreen(candidate.prescreen, relaxation)
    if relaxation is not None:
        curve = relaxation.curve
        yield "energy", _curve(curve.energies, "eV/atom")
        yield "largest force", _curve(curve.max_forces, "eV/A")
        yield "volume", _curve(curve.volumes, "A^3/atom")
    if relaxed is not None:
        yield "symmetrized", _symmetrization(relaxed.symmetrization)
        yield "volume change", _text("{:+.1%}", relaxed.volume_change)
        yield "moments", _moments(relaxed)
    yield "space group", _space_groups(candidate)
    yield from _results(candidate)
    yield from (("caveat", caveat) for caveat in history.caveats)
    for job in history.jobs:
        state = "" if job.state == "COMPLETED" else f", {job.state.lower()}"
        yield f"job {job.fw_id}", f"{job.step}{state}: {job.folder or 'not launched yet'}"


def _text(template: str, *values: object) -> str:
    """Return the formatted values; an empty string if one is None."""
    return "" if None in values else template.format(*values)


def _energies(energy: float | None, decomposition: float | None) -> str:
    distance = ""
    if decomposition is not None:
        side = "below the hull" if round(decomposition, 3) < 0 else "above hull"
        distance = f"{abs(decomposition):.3f} eV/atom {side}"
    return ", ".join(filter(None, (_text("{:.3f} eV/atom", energy), distance)))


def competing_phases(candidate: Candidate) -> str:
    """Return the competing phases of a candidate with fractions of atoms; empty: unknown."""
    shares = round_shares(candidate.decomposes_to or {}, 2)
    return ", ".join(f"{share:.0%} {phase}" for phase, share in shares.items())


def _prescreen(verdict: PrescreenVerdict, relaxation: RelaxationResult | None) -> Iterator[Line]:
    rejected = _text("rejected: {}", verdict.rejected_at) or "passed"
    yield "prescreen", rejected + _text(", after {} steps", verdict.n_steps)
    if verdict.is_audited:
        yield "audit", _text("early stopping at step {}", verdict.would_stop_at) or "not stopped"
    yield "prescreen duplicate of", verdict.duplicate_of or ""
    relaxed = relaxation.relaxed if relaxation else None
    energies = _energies(relaxed.energy_per_atom if relaxed else None, verdict.decomposition_energy)
    yield str(verdict.level_of_theory), energies
    if (second := verdict.confirmation) is not None:
        energies = _energies(second.energy_per_atom, second.decomposition_energy)
        difference = f"disagreement {second.disagreement:+.3f} eV/atom"
        yield second.level_of_theory, f"{energies}; {difference}, after {second.n_steps} steps"


def _curve(values: Sequence[float], unit: str) -> str:
    return f"{values[0]:.3f} {sparkline(values)} {values[-1]:.3f} {unit}" if values else ""


def _moments(relaxed: RelaxedStructure) -> str:
    if relaxed.magmoms is None:
        return ""
    sites = zip(relaxed.structure, relaxed.magmoms, strict=True)
    moments = ", ".join(f"{site.specie.symbol} {moment:.2f}" for site, moment in sites)
    return f"{moments}; total {sum(relaxed.magmoms):.1f} Bohr magnetons"


def _symmetrization(change: Symmetrization | None) -> str:
    if change is None:
        return ""
    return (
        f"copy at {change.tolerance:g} A: atoms moved by up to {change.max_displacement:.2f} A, "
        f"{change.energy_change:+.4f} eV/atom after {counted(change.n_steps, 'step')}"
    )


def _space_groups(candidate: Candidate) -> str:
    groups = (candidate.symmetry, candidate.tight_symmetry)
    text = ", ".join(filter(None, map(_space_group, groups)))
    if candidate.structure is None:
        return text
    return text + _text("; as proposed {}", _space_group(candidate.generated_symmetry) or None)


def _space_group(symmetry: Symmetry | None) -> str:
    if symmetry is None:
        return ""
    return _text("{} ({}) at {:g} A", symmetry.symbol, symmetry.number, symmetry.symprec)


def _results(candidate: Candidate) -> Iterator[Line]:
    energies = _energies(candidate.energy_per_atom, candidate.energy_above_hull)
    yield f"{candidate.level_of_theory}, final", energies
    yield "decomposition energy", _text("{:z.3f} eV/atom", candidate.decomposition_energy)
    from_references = candidate.reference_decomposition_energy
    yield "reference decomposition energy", _text("{:z.3f} eV/atom", from_references)
    yield "competing phases", competing_phases(candidate)
    novelty = candidate.novelty
    yield "same as reference phase", (novelty and novelty.reference_match) or ""
    yield "energy incomplete", candidate.energy_incomplete or ""
    yield "hull", incomplete_hull_warning(candidate.uncovered_subsystems or ()) or ""
    states = candidate.oxidation_states.average if candidate.oxidation_states else None
    texts = (f"{symbol} {state:+.2f}" for symbol, state in (states or {}).items())
    yield "oxidation states", ", ".join(texts)
    if candidate.pourbaix is not None:
        yield "aqueous stability", f"{candidate.pourbaix.minimum:.3f} eV/atom at the best pH"
    is_incomplete = candidate.incomplete_band_gap is not None
    gap = candidate.incomplete_band_gap if is_incomplete else candidate.band_gap
    yield "band gap", _text("{:.2f} eV", gap) + _text(" ({})", candidate.band_gap_method)
    yield "band gap incomplete", str(candidate.band_gap_reason) if is_incomplete else ""
    for order in candidate.band_gap_result.magnetic_orders if candidate.band_gap_result else ():
        energy = _text("{}, {:.3f} eV/atom", order.order, order.energy_per_atom)
        iterations = _text(", {} SCF iterations", order.scf_iterations)
        missing = f"{'skipped' if order.is_skipped else 'missing'}: {order.reason}"
        yield f"magnetic ordering {order.start}", energy + iterations if energy else missing
    for name, result in candidate.properties.items():
        value = _text("{:g} ", result.value) + result.unit if result.reason is None else ""
        yield name.replace("_", " "), value.strip() or f"not computed: {result.reason}"
    yield "duplicate of", candidate.duplicate_of or ""
