"""The prescreen of one batch, about a hundred structures, and the selection across batches.

The steps are: validity, symmetry, duplicates, relaxation with early stopping, geometry, the window
above the hull, duplicates again, and a second potential. Cheap checks come first. The verdict of a
rejected structure has the step and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_htvs.core.candidate import (
    Confirmation,
    Curve,
    Ending,
    PrescreenVerdict,
    Proposal,
    RelaxationResult,
    Screened,
)
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.properties import ENERGY_ABOVE_HULL, PROPERTIES
from gan_htvs.core.stages import ScreeningStep, Stage
from gan_htvs.potentials.relaxation import RelaxationCache, relax_many
from gan_htvs.potentials.relaxer import Work
from gan_htvs.prescreen.agreement import Agreement
from gan_htvs.prescreen.stopping import shipped_rule
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.matching import NamedCrystals
from gan_htvs.structures.symmetry import symmetrize
from gan_htvs.structures.validity import check_geometry
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.plausibility import implausible_reason, lowest_plausible

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pymatgen.core import Composition, Structure

    from gan_htvs.core.candidate import RelaxedStructure
    from gan_htvs.potentials.relaxation_settings import PotentialSettings
    from gan_htvs.prescreen.prescreen_settings import Device
    from gan_htvs.prescreen.stopping import Bound, StoppingRule
    from gan_htvs.thermodynamics.hull import ReferenceSet

SAME_ENERGY = 0.01
"""A duplicate is kept instead of the first structure if it is lower by more than this, eV/atom."""


@dataclass
class Prescreen:
    """The rules of the prescreen, with potentials and reference phases.

    Attributes
    ----------
    relaxing, confirming
        The potentials.
    references, confirming_references
        Reference phases at their levels of theory.
    window, disagreement, symmetry_tolerance, audit, device
        See :class:`gan_htvs.prescreen.prescreen_settings.PrescreenSettings`.
    recall
        Share of the structures within the window that early stopping must keep.
    geometry
        Limits for the structures.
    lowest_decomposition_energy
        See :class:`gan_htvs.campaign.model.ReferenceSettings`.

    Raises
    ------
    UserError
        If the references are of another level of theory than the potentials.
    """

    relaxing: PotentialSettings
    confirming: PotentialSettings | None
    references: ReferenceSet
    confirming_references: ReferenceSet | None
    window: float = 0.2
    disagreement: float = 0.1
    symmetry_tolerance: float = 0.1
    audit: float = 0.1
    device: Device = "auto"
    recall: float = 0.94
    geometry: GeometryLimits = CHEMISTRY
    lowest_decomposition_energy: float | None = None
    rule: StoppingRule | None = field(init=False, default=None)
    quantile: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.references.check_level(self.relaxing.level_of_theory)
        if self.confirming is not None and self.confirming_references is not None:
            self.confirming_references.check_level(self.confirming.level_of_theory)
        if self.recall < 1:
            optimizer, fmax = self.relaxing.optimizer, self.relaxing.fmax
            rule = shipped_rule(self.references.level_of_theory, optimizer, fmax)
            self.rule = rule
            self.quantile = rule.quantile_for(self.recall, self.window) if rule else None

    def bound(self, composition: Composition) -> Bound | None:
        """Return the stopping rule of a composition; None without early stopping."""
        if self.rule is None or self.quantile is None:
            return None
        target = self.references.hull_energy(composition) + self.window
        return self.rule.bound(target, self.quantile)

    def agreement(self, composition: Composition, first: float) -> Agreement:
        """Return the criterion for agreement with a decomposition energy ``first``, eV/atom."""
        if self.confirming_references is None or self.confirming is None:
            raise ValueError("the prescreen has no second potential")
        return Agreement(
            hull=round(self.confirming_references.hull_energy(composition), 6),
            window=self.window,
            first=round(first, 6),
            disagreement=self.disagreement,
            max_steps=self.confirming.max_steps,
        )

    def is_audited(self, candidate_id: str) -> bool:
        """Return whether a structure is never stopped, which depends only on its id."""
        number = int(content_hash("audit", candidate_id)[:8], 16) / 16**8
        return number < self.audit

    def run(
        self,
        proposals: Sequence[Proposal],
        cache: RelaxationCache | None = None,
        *,
        n_processes: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Screened:
        """Prescreen a batch.

        Parameters
        ----------
        proposals
            Any number, of any compositions.
        cache
            Source of finished relaxations, to which new ones are added; None: no cache.
        n_processes
            Processes of one thread each; a structure that kills one is recorded as failed, and
            the others are not affected. None: only this process.
        on_progress
            Called with the number of finished relaxations and their total, for each potential.

        Returns
        -------
        The proposals with their verdicts and relaxations, in the same order.
        """
        return _Batch(self, proposals, cache or RelaxationCache(), n_processes, on_progress).run()


@dataclass
class _Batch:
    """State of the prescreen of one batch."""

    rules: Prescreen
    proposals: Sequence[Proposal]
    cache: RelaxationCache
    n_processes: int | None
    on_progress: Callable[[int, int], None] | None
    verdicts: dict[str, PrescreenVerdict] = field(default_factory=dict)
    relaxations: dict[str, RelaxationResult] = field(default_factory=dict)

    def run(self) -> Screened:
        self.verdicts = {
            proposal.candidate_id: PrescreenVerdict(
                level_of_theory=self.rules.references.level_of_theory,
                is_audited=self.rules.is_audited(proposal.candidate_id),
            )
            for proposal in self.proposals
        }
        starts = self._without_duplicates(self._valid())
        relaxed = self._relaxed(starts)
        within = self._within_window(relaxed)
        self._confirm(self._without_relaxed_duplicates(within))
        screened = [
            proposal.model_copy(
                update={
                    "prescreen": self.verdicts[proposal.candidate_id],
                    "relaxation": self.relaxations.get(proposal.candidate_id),
                }
            )
            for proposal in self.proposals
        ]
        return Screened(proposals=screened)

    def _reject(
        self, name: str, step: ScreeningStep, reason: str, duplicate_of: str | None = None
    ) -> None:
        self.verdicts[name] = self.verdicts[name].rejected(step, reason, duplicate_of)

    def _valid(self) -> dict[str, Structure]:
        """Symmetrize the structures whose geometry is valid."""
        starts = {}
        for proposal in self.proposals:
            if (flaw := check_geometry(proposal.structure, self.rules.geometry)) is not None:
                self._reject(proposal.candidate_id, ScreeningStep.VALIDITY, f"as proposed: {flaw}")
                continue
            starts[proposal.candidate_id] = symmetrize(
                proposal.structure, self.rules.symmetry_tolerance
            )
        return starts

    def _without_duplicates(self, starts: dict[str, Structure]) -> dict[str, Structure]:
        """Return the first structure of each crystal; reject the others."""
        seen = NamedCrystals()
        unique = {}
        for name, start in starts.items():
            other = seen.match(name, start)
            if other is None:
                unique[name] = start
            else:
                reason = f"the same crystal as {other}, which is relaxed instead"
                self._reject(name, ScreeningStep.DUPLICATE, reason, other)
        return unique

    def _relaxed(self, starts: Mapping[str, Structure]) -> dict[str, RelaxedStructure]:
        """Return the relaxed structures that converged to a sound geometry; reject the others."""
        work: dict[str, Work] = {
            name: Work(
                start,
                self.rules.relaxing,
                self.rules.bound(start.composition),
                self.verdicts[name].is_audited,
                geometry=self.rules.geometry,
            )
            for name, start in starts.items()
        }
        sound = {}
        for name, relaxation in self._relax(work).items():
            self.relaxations[name] = relaxation
            verdict = self.verdicts[name]
            verdict.would_stop_at = relaxation.would_stop_at
            verdict.cpu_seconds = relaxation.cpu_seconds
            if relaxation.relaxed is not None:
                verdict.n_steps = relaxation.relaxed.n_steps
                verdict.volume_change = relaxation.relaxed.volume_change
            if (flaw := _flaw(relaxation, self.rules.geometry)) is not None:
                self._reject(name, *flaw)
            elif relaxation.relaxed is not None:
                sound[name] = relaxation.relaxed
        return sound

    def _within_window(
        self, relaxed: Mapping[str, RelaxedStructure]
    ) -> dict[str, RelaxedStructure]:
        references = self.rules.references
        within = {}
        for name, result in relaxed.items():
            composition = result.structure.composition
            energy = references.decomposition_energy(composition, result.energy_per_atom)
            self.verdicts[name].decomposition_energy = energy
            lowest = lowest_plausible(
                self.rules.lowest_decomposition_energy, references.uncovered(composition)
            )
            if (implausible := implausible_reason(energy, lowest)) is not None:
                self._reject(name, ScreeningStep.WINDOW, implausible)
            elif energy > self.rules.window:
                reason = PROPERTIES[ENERGY_ABOVE_HULL].compare(energy, f"> {self.rules.window:g}")
                self._reject(name, ScreeningStep.WINDOW, reason)
            else:
                within[name] = result
        return within

    def _without_relaxed_duplicates(
        self, within: Mapping[str, RelaxedStructure]
    ) -> dict[str, RelaxedStructure]:
        """Return the structure of lowest energy of each crystal; reject the others."""
        duplicates = duplicates_of_lowest(within)
        for name, other in duplicates.items():
            reason = f"relaxed to the same crystal as {other}"
            self._reject(name, ScreeningStep.RELAXED_DUPLICATE, reason, other)
        return {name: result for name, result in within.items() if name not in duplicates}

    def _confirm(self, survivors: Mapping[str, RelaxedStructure]) -> None:
        """Relax the survivors with the second potential; reject those on which the two disagree."""
        rules, references = self.rules, self.rules.confirming_references
        if rules.confirming is None or references is None:
            return
        agreements = {
            name: rules.agreement(
                result.structure.composition, self.verdicts[name].decomposition_energy or 0.0
            )
            for name, result in survivors.items()
        }
        work: dict[str, Work] = {
            name: Work(
                result.structure, rules.confirming, agreements[name], geometry=rules.geometry
            )
            for name, result in survivors.items()
        }
        for name, relaxation in self._relax(work).items():
            second = relaxation.relaxed
            verdict = self.verdicts[name]
            if second is None or relaxation.ending is Ending.UNSOUND:
                reason = f"{references.level_of_theory}: {relaxation.reason}"
                self._reject(name, ScreeningStep.CONFIRMATION, reason)
                continue
            energy = references.decomposition_energy(
                second.structure.composition, second.energy_per_atom
            )
            verdict.confirmation = Confirmation(
                level_of_theory=references.level_of_theory,
                energy_per_atom=second.energy_per_atom,
                decomposition_energy=energy,
                disagreement=energy - (verdict.decomposition_energy or 0.0),
                n_steps=second.n_steps or 0,
                cpu_seconds=relaxation.cpu_seconds,
            )
            refusal = agreements[name].refusal(second.energy_per_atom)
            if refusal is not None:
                reason = f"{references.level_of_theory}: {refusal}"
                self._reject(name, ScreeningStep.CONFIRMATION, reason)

    def _relax(self, work: Mapping[str, Work]) -> dict[str, RelaxationResult]:
        potentials = (self.rules.relaxing, self.rules.confirming)
        return relax_many(
            work,
            self.cache,
            device=self.rules.device,
            n_processes=self.n_processes,
            preload=[potential.name for potential in potentials if potential is not None],
            on_progress=self.on_progress,
        )


def _flaw(
    relaxation: RelaxationResult, geometry: GeometryLimits
) -> tuple[ScreeningStep, str] | None:
    """Return the step at which a relaxation is rejected, and the reason; None if it is sound."""
    if relaxation.ending is Ending.STOPPED:
        return ScreeningStep.STOPPING, str(relaxation.reason)
    if relaxation.relaxed is None or relaxation.ending is Ending.OUT_OF_STEPS:
        return ScreeningStep.RELAXATION, str(relaxation.reason)
    if (flaw := check_relaxation(relaxation.relaxed, geometry)) is not None:
        stage, reason = flaw
        rejected_at = (
            ScreeningStep.GEOMETRY if stage is Stage.REJECTED else ScreeningStep.RELAXATION
        )
        return rejected_at, str(relaxation.reason or reason)
    return None


def duplicates_of_lowest(
    relaxed: Mapping[str, RelaxedStructure], kept: Collection[str] = ()
) -> dict[str, str]:
    """Return the structures that relaxed to the same crystal as another one.

    Parameters
    ----------
    relaxed
        Relaxed structures of one level of theory, by name.
    kept
        Names of the first ones that no later structure replaces.

    Returns
    -------
    For each duplicate the name of the structure that is kept: the first one of its crystal, unless
    a later one is lower by more than ``SAME_ENERGY``.
    """
    seen = NamedCrystals()
    crystals = {
        name: seen.match(name, result.structure) or name for name, result in relaxed.items()
    }
    lowest: dict[str, str] = {}
    for name, crystal in crystals.items():
        best = lowest.setdefault(crystal, name)
        if best in kept:
            continue
        if relaxed[name].energy_per_atom < relaxed[best].energy_per_atom - SAME_ENERGY:
            lowest[crystal] = name
    return {name: lowest[crystal] for name, crystal in crystals.items() if lowest[crystal] != name}


def select(proposals: Iterable[Proposal]) -> Screened:
    """Select the survivors of several batches, without duplicates, most stable first.

    Rejected duplicates remain in the list. Curves of relaxations are removed. Structures that were
    not prescreened are kept. Survivors of earlier rounds, which come first, are kept, because they
    are evaluated already.
    """
    survivors = [proposal for proposal in proposals if proposal.survives]
    last_round = max((proposal.origin.round or 1 for proposal in survivors), default=1)
    earlier = {
        proposal.candidate_id for proposal in survivors if (proposal.origin.round or 1) < last_round
    }
    relaxed = {
        proposal.candidate_id: proposal.relaxation.relaxed
        for proposal in survivors
        if proposal.relaxation is not None and proposal.relaxation.relaxed is not None
    }
    duplicates = duplicates_of_lowest(relaxed, earlier)
    survivors.sort(key=_energy)
    return Screened(
        proposals=[_selected(item, duplicates.get(item.candidate_id)) for item in survivors]
    )


def _energy(proposal: Proposal) -> tuple[float, str]:
    """Return the sort key of a survivor."""
    if proposal.prescreen is None or proposal.prescreen.decomposition_energy is None:
        return 0.0, ""
    return round(proposal.prescreen.decomposition_energy, 3), proposal.candidate_id


def _selected(proposal: Proposal, duplicate_of: str | None) -> Proposal:
    verdict, relaxation = proposal.prescreen, proposal.relaxation
    if verdict is not None and duplicate_of is not None:
        reason = f"relaxed to the same crystal as {duplicate_of}"
        verdict = verdict.rejected(ScreeningStep.RELAXED_DUPLICATE, reason, duplicate_of)
    if relaxation is not None:
        relaxation = relaxation.model_copy(update={"curve": Curve()})
    return proposal.model_copy(update={"prescreen": verdict, "relaxation": relaxation})
