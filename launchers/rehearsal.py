"""Rehearse a campaign: what is run, and what the real one will cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich import box
from rich.table import Table

from flows.campaign import CampaignUnits
from flows.references import known_phases
from gan_htvs.campaign import Campaign
from gan_htvs.errors import UserError
from gan_htvs.rehearsal.cost import RunCost
from gan_htvs.rehearsal.failures import FailureMode
from gan_htvs.settings import first_problem
from launchers.console import note, out
from launchers.estimate import survivor_share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from launchers.database import Databases

FEW = 10
"""Below which expected numbers are told in tenths, as those of rare survivors."""


def rehearsal_of(
    campaign: Campaign, n_structures: int, compositions: Sequence[str], failures: Iterable[str]
) -> Campaign:
    """Make the campaign that rehearses another one.

    Parameters
    ----------
    campaign
        The real one.
    n_structures
        Of each composition, from each proposer.
    compositions
        Cell formulas; none: those of the campaign.
    failures
        How calculations fail, such as ``killed=0.1``.

    Raises
    ------
    UserError
        If VASP has no part in it, or an option is wrong.
    """
    shares = dict(_share(text) for text in failures)
    document = campaign.rehearsal.model_dump()
    # A few structures stand for the survivors, and none of them may leave before VASP.
    document["prescreen"] = None
    document["sampling"]["structures_per_composition"] = n_structures
    document["engines"]["vasp"]["failures"] = shares
    if compositions:
        document["compositions"] = list(compositions)
    try:
        return Campaign.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{campaign.name}: {first_problem(error)}.") from error


def _share(text: str) -> tuple[str, float]:
    mode, _, share = text.partition("=")
    try:
        found = FailureMode(mode).value, float(share)
    except ValueError as error:
        raise UserError(
            f"--fail {text}: write MODE=SHARE, such as killed=0.1; modes are "
            f"{', '.join(FailureMode)}."
        ) from error
    if not 0 <= found[1] <= 1:
        raise UserError(f"--fail {text}: a share lies between 0 and 1.")
    return found


@dataclass(frozen=True)
class StepCost:
    """What the calculations of one kind took in a rehearsal, and will take altogether."""

    name: str
    costs: tuple[RunCost, ...]
    n_expected: float
    """Calculations of this kind in the whole campaign."""

    @property
    def is_hybrid(self) -> bool:
        """Whether it is priced by the exact exchange."""
        return self.costs[0].is_hybrid

    @property
    def units_each(self) -> float:
        """Mean work of one: k points x bands x spins x electronic steps, squared for a hybrid."""
        return mean(cost.fock_units if self.is_hybrid else cost.units for cost in self.costs)

    @property
    def expected_units(self) -> float:
        """Work of all of them in the campaign."""
        return self.n_expected * self.units_each


def estimate_costs(databases: Databases, rehearsal: Campaign, campaign: Campaign) -> list[StepCost]:
    """Add up what all rehearsals of a campaign would have cost, and what the campaign will.

    Every structure of the campaign, of a prescreen every survivor, is taken to need as many
    calculations of each kind as a rehearsed one did in the mean; known phases are calculated
    once, unless their energies are published. How many structures earn a band gap is the word of
    the interatomic potential.
    """
    references = CampaignUnits(rehearsal).references
    phases = {phase.candidate_id for phase in known_phases(rehearsal)}
    with databases.store("outputs", key="uuid") as outputs:
        documents = list(
            outputs.query(
                {
                    "metadata.campaign": {"$in": [rehearsal.name, references]},
                    "output.additional_json.rehearsal": {"$exists": True},
                },
                ["metadata", "output.task_label", "output.additional_json.rehearsal"],
            )
        )
    costs: dict[tuple[bool, str], list[RunCost]] = defaultdict(list)
    rehearsed = set()
    for document in documents:
        labels, output = document["metadata"], document["output"]
        of_phase = labels["campaign"] == references or labels["candidate_id"] in phases
        if not of_phase:
            rehearsed.add(labels["candidate_id"])
        # "AFM relax 2" is of the kind "relax 2".
        kind = output["task_label"].split(" ", 1)[-1]
        costs[of_phase, kind].append(RunCost.model_validate(output["additional_json"]["rehearsal"]))
    share, _ = survivor_share(campaign, databases)
    more = share * campaign.n_structures / len(rehearsed) if rehearsed else 0
    if campaign.references.energies != "computed":
        costs = {key: found for key, found in costs.items() if not key[0] or key[1] == "hybrid"}
    return [
        StepCost(
            f"known phases, {kind}" if of_phase else kind,
            tuple(found),
            len(found) * (1 if of_phase else more),
        )
        for (of_phase, kind), found in sorted(costs.items())
    ]


def print_costs(
    steps: Sequence[StepCost], core_seconds: float | None, hybrid_core_seconds: float | None
) -> None:
    """Print the table of costs.

    Parameters
    ----------
    steps
        See :func:`estimate_costs`.
    core_seconds, hybrid_core_seconds
        What a unit takes, of PBE and of exact exchange; None: core-hours are not told.
    """
    if not steps:
        note("Nothing was calculated, so there is no cost to tell.")
        return
    table = Table(title="What VASP will do", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("calculation")
    counts = {
        "k points": "n_kpoints",
        "bands": "n_bands",
        "ionic steps": "n_ionic_steps",
        "electronic steps": "n_electronic_steps",
    }
    columns = ["rehearsed", *counts, "units each", "in the campaign", "units", "core-hours"]
    for name in columns:
        table.add_column(name, justify="right")
    hours = [_core_hours(step, core_seconds, hybrid_core_seconds) for step in steps]
    for step, known in zip(steps, hours, strict=True):
        means = [mean(getattr(cost, name) for cost in step.costs) for name in counts.values()]
        table.add_row(
            step.name,
            str(len(step.costs)),
            *(f"{value:.0f}" for value in means),
            f"{step.units_each:.2e}",
            f"{step.n_expected:{',.0f' if step.n_expected >= FEW else '.2g'}}",
            f"{step.expected_units:.2e}",
            "-" if known is None else f"{known:,.1f}",
        )
    table.add_section()
    told = [known for known in hours if known is not None]
    total = f"{sum(told):,.1f}" if len(told) == len(hours) else "-"
    table.add_row("all", *[""] * (len(columns) - 1), total)
    out.print(table)
    out.print(
        "A unit is one k point, band, spin and electronic step; of a hybrid, a pair of bands at a "
        "pair of k points. k points and bands are VASP's, ionic steps the potential's, and "
        "electronic steps are assumed."
    )


def _core_hours(
    step: StepCost, core_seconds: float | None, hybrid_core_seconds: float | None
) -> float | None:
    rate = hybrid_core_seconds if step.is_hybrid else core_seconds
    return None if rate is None else step.expected_units * rate / 3600
