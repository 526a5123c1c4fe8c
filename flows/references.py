"""Reference phases, relaxed by the engine of the candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker, job
from pymatgen.core import Element

from flows.energy import EnergyMaker, PotentialEnergyMaker
from flows.proposals import make_proposal
from flows.routing import mark
from gan_htvs.core.candidate import Ending, RelaxationResult, RelaxedStructure
from gan_htvs.core.errors import UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.stages import REFERENCE_PHASE, Step
from gan_htvs.thermodynamics.merging import merged_phases
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from gan_htvs.thermodynamics.references import ReferencePhase, reference_phases, reference_set

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Proposal
    from gan_htvs.thermodynamics.hull import ReferenceSet


@dataclass
class ReferencesMaker(Maker):
    """Compute the reference phases of a chemical system at one level of theory.

    Parameters
    ----------
    name
        Name of the flow.
    energy_maker
        Computes the energies; candidates need the same level of theory.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> flow = ReferencesMaker().make(["Mg", "O"])
    >>> outputs = run_locally(flow, log=False)
    >>> references = outputs[flow.output.uuid][1].output
    >>> sorted(entry.name for entry in references.entries)
    ['Mg hcp', 'MgO periclase', 'MgO2', 'O2']
    """

    name: str = "references"
    energy_maker: EnergyMaker = field(default_factory=PotentialEnergyMaker)

    def make(self, phases: Sequence[ReferencePhase | Element | str]) -> Flow:
        """Make the flow.

        Parameters
        ----------
        phases
            Reference phases, or elements whose phases come with the package.

        Returns
        -------
        A flow whose output is a :class:`~gan_htvs.thermodynamics.hull.ReferenceSet`. Its first
        part, :meth:`EnergyMaker.make_references`, returns the relaxed structures by phase; the
        part is missing if all energies are pinned.

        Raises
        ------
        UserError
            If there are no phases, or the package has none for these elements.
        """
        items = [] if isinstance(phases, str) or not isinstance(phases, Iterable) else [*phases]
        symbols = [str(item) for item in items if isinstance(item, str | Element)]
        listed = [item for item in items if isinstance(item, ReferencePhase)]
        n_valid = len(listed) + sum(map(Element.is_valid_symbol, symbols))
        if not items or n_valid < len(items):
            raise UserError(
                f"references: {phases!r:.60} is not a list of phases, or of elements; give "
                "symbols such as Mg and O."
            )
        if symbols:
            listed += reference_phases(symbols)
        unpinned = {
            phase.name: phase.structure for phase in listed if phase.pinned_energy_per_atom is None
        }
        relax_jobs = [self.energy_maker.make_references(unpinned)] if unpinned else []
        relaxed = relax_jobs[0].output if relax_jobs else {}
        assemble_job = mark(self.assemble(listed, relaxed), Step.REFERENCES, "other", self.name)
        return Flow([*relax_jobs, assemble_job], output=assemble_job.output, name=self.name)

    @job
    def assemble(
        self,
        phases: list[ReferencePhase],
        relaxed: dict[str, RelaxedStructure | CalculationFailure],
    ) -> ReferenceSet:
        """Build the reference set; raise if a phase has no energy."""
        energies: dict[str, RelaxedStructure | str] = {
            name: result.reason if isinstance(result, CalculationFailure) else result
            for name, result in relaxed.items()
        }
        return reference_set(phases, energies, self.energy_maker.level_of_theory)


def reference_survivors(
    campaign: Campaign,
    relaxed: Mapping[str, RelaxedStructure | CalculationFailure],
    level_of_theory: str,
) -> list[Proposal]:
    """Return the reference phases of a campaign as structures to evaluate.

    Parameters
    ----------
    campaign
        Chemical system and source of the phases.
    relaxed
        Relaxed phases of a :class:`ReferencesMaker`, by name. Phases with published energies are
        not relaxed.
    level_of_theory
        Label of these energies.

    Returns
    -------
    One for each phase except those whose energy is pinned without a source, such as O2, and those
    that relaxed to the same crystal as another one.
    """
    survivors = []
    merged = merged_phases(
        {name: result for name, result in relaxed.items() if isinstance(result, RelaxedStructure)}
    )
    for index, phase in enumerate(phases_of(campaign)):
        result = relaxed.get(phase.name)
        if phase.pinned_energy_per_atom is not None and phase.published_energy_per_atom is not None:
            result = RelaxedStructure(
                structure=phase.structure,
                energy_per_atom=phase.pinned_energy_per_atom,
                level_of_theory=level_of_theory,
                converged=True,
            )
        if isinstance(result, RelaxedStructure) and phase.name not in merged:
            proposal = make_proposal(
                phase.structure,
                *("reference phase", campaign.name, phase.name),
                proposer=REFERENCE_PHASE,
                index=index,
                label=phase.name,
                source=phase.source,
            )
            proposal.relaxation = RelaxationResult(ending=Ending.CONVERGED, relaxed=result)
            survivors.append(proposal)
    return survivors
