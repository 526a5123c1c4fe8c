"""A pack: about a hundred structures that go through the prescreen in one job.

Validity, symmetry, duplicates, relaxation with early stopping, geometry, the window above the
hull, duplicates again, and a second potential. The cheap questions come first, and whoever leaves
does so with the hurdle and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_htvs.assessment import Judge, exceeds, taken_for_hole
from gan_htvs.batches import batches_of
from gan_htvs.candidate import Confirmation, Hurdle, Prescreened, Stage
from gan_htvs.descent import Descent, Ending, descend
from gan_htvs.identity import content_hash, content_uuid
from gan_htvs.matching import NamedCrystals
from gan_htvs.potentials import module_of
from gan_htvs.prescreen.agreement import Agreement
from gan_htvs.prescreen.batched import is_batched, relax_batched
from gan_htvs.prescreen.stopping import shipped_rule
from gan_htvs.processes import spread
from gan_htvs.spacegroup import symmetrise
from gan_htvs.thermodynamics.corrections import level_of_theory
from gan_htvs.validity import check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymatgen.core import Composition, Structure

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Proposal, Relaxed
    from gan_htvs.descent import Curve, Work
    from gan_htvs.engines import DescentSettings
    from gan_htvs.prescreen.notes import Found, Notes
    from gan_htvs.prescreen.settings import Device
    from gan_htvs.prescreen.stopping import Bound, StoppingRule
    from gan_htvs.thermodynamics.hull import ReferenceSet

SAME_ENERGY = 0.01
"""A crystal found again must lie this much lower to be worth more than the first find, eV/atom."""


def relax_one(
    structure: Structure,
    settings: DescentSettings,
    stop: Callable[[Curve], str | None] | None,
    audited: bool,
) -> Descent:
    """Relax one structure of a pack, in whatever process."""
    return descend(structure, settings, stop=stop, audited=audited)


@dataclass(frozen=True)
class Prescreen:
    """The rules of the prescreen, with everything that they compare against.

    Attributes
    ----------
    owner
        Whose packs know of one another.
    relaxing, confirming
        The potentials.
    references, confirming_references
        The known phases at their levels of theory.
    window, disagreement, symmetry_tolerance, audit, device
        See :class:`gan_htvs.prescreen.settings.PrescreenSettings`.
    rule, quantile
        When to stop a relaxation; None: never.
    """

    owner: str
    relaxing: DescentSettings
    confirming: DescentSettings | None
    references: ReferenceSet
    confirming_references: ReferenceSet | None
    window: float = 0.2
    disagreement: float = 0.1
    symmetry_tolerance: float = 0.1
    audit: float = 0.1
    device: Device = "auto"
    rule: StoppingRule | None = None
    quantile: float | None = None

    @classmethod
    def of(
        cls,
        campaign: Campaign,
        references: ReferenceSet,
        confirming_references: ReferenceSet | None = None,
    ) -> Prescreen:
        """Bring the rules of a campaign and its reference sets together."""
        settings = campaign.prescreening
        window = settings.window or campaign.thresholds.metastable
        relaxing = settings.relaxing(campaign.engines)
        references.check_level(level_of_theory(relaxing.name, relaxing.arguments).label)
        rule = quantile = None
        if settings.recall < 1:
            rule = shipped_rule(references.level_of_theory, relaxing.optimizer, relaxing.fmax)
            quantile = rule.quantile_for(settings.recall, window) if rule else None
        return cls(
            owner=campaign.name,
            relaxing=relaxing,
            confirming=settings.confirming(campaign.engines),
            references=references,
            confirming_references=confirming_references,
            window=window,
            disagreement=settings.disagreement,
            symmetry_tolerance=settings.symmetry_tolerance,
            audit=settings.audit,
            device=settings.device,
            rule=rule,
            quantile=quantile,
        )

    def bound(self, composition: Composition) -> Bound | None:
        """Find when to stop the relaxations of a composition."""
        if self.rule is None or self.quantile is None:
            return None
        target = self.references.hull_energy(composition) + self.window
        return self.rule.bound(target, self.quantile)

    def agreement(self, composition: Composition, first: float) -> Agreement:
        """Find when the second potential agrees with an energy above hull, eV/atom."""
        if self.confirming_references is None or self.confirming is None:
            raise ValueError("nobody is asked to confirm")
        return Agreement(
            hull=round(self.confirming_references.hull_energy(composition), 6),
            window=self.window,
            first=round(first, 6),
            disagreement=self.disagreement,
            max_steps=self.confirming.max_steps,
        )

    def is_audited(self, candidate_id: str) -> bool:
        """Whether a structure is never stopped; the same ones every time."""
        drawn = int(content_hash("audit", candidate_id)[:8], 16) / 16**8
        return drawn < self.audit

    def run(
        self,
        proposals: Sequence[Proposal],
        notes: Notes,
        *,
        n_processes: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Prescreened]:
        """Take a pack through the prescreen.

        Parameters
        ----------
        proposals
            Any number, of any compositions.
        notes
            Where finished relaxations are written and read.
        n_processes
            Processes that share the relaxations, of one thread each; a structure that kills one
            takes nothing else along. None: all happens in this process.
        on_progress
            Called with the relaxations that have ended and their number, both potentials'.

        Returns
        -------
        One verdict for each proposal, in their order.
        """
        return _Pack(self, proposals, notes, n_processes, on_progress).run()


@dataclass
class _Pack:
    """A pack that is at work."""

    rules: Prescreen
    proposals: Sequence[Proposal]
    notes: Notes
    n_processes: int | None
    on_progress: Callable[[int, int], None] | None
    verdicts: dict[str, Prescreened] = field(default_factory=dict)

    def run(self) -> list[Prescreened]:
        self.verdicts = {
            proposal.candidate_id: Prescreened(
                candidate_id=proposal.candidate_id,
                level_of_theory=self.rules.references.level_of_theory,
                is_audited=self.rules.is_audited(proposal.candidate_id),
            )
            for proposal in self.proposals
        }
        starts = self._without_duplicates(self._valid())
        relaxed = self._relaxed(starts)
        within = self._within_window(relaxed)
        self._confirm(self._without_relaxed_duplicates(within))
        return [self.verdicts[proposal.candidate_id] for proposal in self.proposals]

    def _leave(
        self, name: str, hurdle: Hurdle, reason: str, duplicate_of: str | None = None
    ) -> None:
        verdict = self.verdicts[name]
        verdict.hurdle, verdict.reason, verdict.duplicate_of = hurdle, reason, duplicate_of

    def _valid(self) -> dict[str, Structure]:
        """Symmetrise what is sound."""
        starts = {}
        for proposal in self.proposals:
            if (flaw := check_geometry(proposal.structure)) is not None:
                self._leave(proposal.candidate_id, Hurdle.VALIDITY, f"as proposed: {flaw}")
                continue
            starts[proposal.candidate_id] = symmetrise(
                proposal.structure, self.rules.symmetry_tolerance
            )
        return starts

    def _without_duplicates(self, starts: dict[str, Structure]) -> dict[str, Structure]:
        """Keep the first of each crystal that anybody announced."""
        seen = NamedCrystals()
        fresh = dict(starts)
        for name, start in self.notes.claim(starts).items():
            other = seen.match(name, start)
            if other is not None and name in fresh:
                del fresh[name]
                reason = f"the same crystal as {other}, which is relaxed"
                self._leave(name, Hurdle.DUPLICATE, reason, other)
        return fresh

    def _relaxed(self, starts: Mapping[str, Structure]) -> dict[str, Relaxed]:
        """Relax; keep what is sound and converged."""
        work: dict[str, Work] = {
            name: (
                start,
                self.rules.relaxing,
                self.rules.bound(start.composition),
                self.verdicts[name].is_audited,
            )
            for name, start in starts.items()
        }
        sound = {}
        for name, (uuid, descent) in self._descend("descent", work).items():
            verdict = self.verdicts[name]
            verdict.descent = uuid
            verdict.would_stop_at = descent.would_stop_at
            verdict.cpu_seconds = descent.cpu_seconds
            if descent.relaxed is not None:
                verdict.n_steps = descent.relaxed.n_steps
                verdict.volume_change = descent.relaxed.volume_change
            if (flaw := _flaw(descent)) is not None:
                self._leave(name, *flaw)
            elif descent.relaxed is not None:
                sound[name] = descent.relaxed
        return sound

    def _within_window(self, relaxed: Mapping[str, Relaxed]) -> dict[str, Relaxed]:
        within = {}
        for name, each in relaxed.items():
            above = self._above_hull(each)
            self.verdicts[name].energy_above_hull = above
            if not Judge.believes(above):
                self._leave(name, Hurdle.GEOMETRY, taken_for_hole(above))
            elif above > self.rules.window:
                reason = exceeds("energy above hull", above, self.rules.window)
                self._leave(name, Hurdle.WINDOW, reason)
            else:
                within[name] = each
        return within

    def _above_hull(self, found: Relaxed | Found) -> float:
        return self.rules.references.energy_above_hull(
            found.structure.composition, found.energy_per_atom
        )

    def _without_relaxed_duplicates(self, within: Mapping[str, Relaxed]) -> dict[str, Relaxed]:
        """Keep the first of each crystal that anybody found within the window, and lower finds.

        One that is first gives way to a lower one of this pack alone, which is sure to stay.
        """
        formulas = {each.structure.composition.reduced_formula for each in within.values()}
        seen = NamedCrystals()
        lowest: dict[str, Found] = {}
        fresh = dict(within)
        noted: dict[str, Found] = {}
        for each in self.notes.found(formulas, self.rules.references.level_of_theory):
            # A structure that was relaxed again, with other settings, is no duplicate of itself.
            noted.setdefault(each.candidate_id, each)
        for name, each in noted.items():
            above = self._above_hull(each)
            if not Judge.believes(above) or above > self.rules.window:
                continue
            crystal = seen.match(name, each.structure) or name
            best = lowest.get(crystal)
            leaves: str | None = name
            if best is None or each.energy_per_atom < best.energy_per_atom - SAME_ENERGY:
                lowest[crystal] = each
                leaves = best.candidate_id if best and name in fresh else None
            if leaves in fresh:
                del fresh[leaves]
                other = lowest[crystal].candidate_id
                reason = f"relaxed to the same crystal as {other}"
                self._leave(leaves, Hurdle.RELAXED_DUPLICATE, reason, other)
        return fresh

    def _confirm(self, survivors: Mapping[str, Relaxed]) -> None:
        """Ask the second potential about what is left."""
        rules, references = self.rules, self.rules.confirming_references
        if rules.confirming is None or references is None:
            return
        agreements = {
            name: rules.agreement(
                each.structure.composition, self.verdicts[name].energy_above_hull or 0.0
            )
            for name, each in survivors.items()
        }
        work: dict[str, Work] = {
            name: (each.structure, rules.confirming, agreements[name], False)
            for name, each in survivors.items()
        }
        for name, (_, descent) in self._descend("confirmation", work).items():
            second = descent.relaxed
            verdict = self.verdicts[name]
            if second is None or descent.ending is Ending.UNSOUND:
                reason = f"{references.level_of_theory}: {descent.reason}"
                self._leave(name, Hurdle.CONFIRMATION, reason)
                continue
            above = references.energy_above_hull(
                second.structure.composition, second.energy_per_atom
            )
            verdict.confirmation = Confirmation(
                level_of_theory=references.level_of_theory,
                energy_per_atom=second.energy_per_atom,
                energy_above_hull=above,
                disagreement=above - (verdict.energy_above_hull or 0.0),
                n_steps=second.n_steps or 0,
                cpu_seconds=descent.cpu_seconds,
            )
            refusal = agreements[name].refusal(second.energy_per_atom)
            if refusal is not None:
                reason = f"{references.level_of_theory}: {refusal}"
                self._leave(name, Hurdle.CONFIRMATION, reason)

    def _descend(self, what: str, work: Mapping[str, Work]) -> dict[str, tuple[str, Descent]]:
        """Relax what is not noted yet, and note each as it ends."""
        uuids = {name: content_uuid(what, self.rules.owner, *piece) for name, piece in work.items()}
        noted = self.notes.descents(list(uuids.values()))
        done, total = len(noted), len(set(uuids.values()))
        missing = {uuids[name]: piece for name, piece in work.items() if uuids[name] not in noted}
        names = {uuid: name for name, uuid in uuids.items()}
        if self.on_progress:
            self.on_progress(done, total)
        for uuid, found in self._ended(missing):
            descent = found or Descent(
                ending=Ending.RAISED, reason="the process that relaxed it was killed, twice"
            )
            noted[uuid] = descent
            # Another machine, or another hour, may have the memory for it.
            if found is not None:
                self.notes.note(uuid, names[uuid], descent)
            done += 1
            if self.on_progress:
                self.on_progress(done, total)
        return {name: (uuid, noted[uuid]) for name, uuid in uuids.items()}

    def _ended(self, work: Mapping[str, Work]) -> Iterator[tuple[str, Descent | None]]:
        """Relax, on a GPU or in processes, and yield each as it ends."""
        names = {settings.name for _, settings, _, _ in work.values()}
        for name in names:  # one, or none if there is no work
            if is_batched(name, self.rules.device):
                return relax_batched(work, batches_of(name, "cuda"))
        potentials = (self.rules.relaxing, self.rules.confirming)
        modules = [module_of(each.name) for each in potentials if each is not None]
        return spread(relax_one, work, self.n_processes, preload=modules)


def _flaw(descent: Descent) -> tuple[Hurdle, str] | None:
    """Say at which hurdle a relaxation fell, if it did."""
    if descent.ending is Ending.STOPPED:
        return Hurdle.STOPPING, str(descent.reason)
    if descent.relaxed is None or descent.ending is Ending.OUT_OF_STEPS:
        return Hurdle.RELAXATION, str(descent.reason)
    if (flaw := Judge.soundness(descent.relaxed)) is not None:
        stage, reason = flaw
        hurdle = Hurdle.GEOMETRY if stage is Stage.REJECTED else Hurdle.RELAXATION
        return hurdle, str(descent.reason or reason)
    return None
