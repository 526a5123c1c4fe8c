"""Rehearse a campaign: what is run, and what the real one will cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
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
from launchers.console import note, out

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from launchers.database import Databases


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
    document["sampling"]["structures_per_composition"] = n_structures
    document["engines"]["vasp"]["failures"] = shares
    if compositions:
        document["compositions"] = list(compositions)
    try:
        return Campaign.model_validate(document)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{campaign.name}: {message}.") from error


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


@dataclass
class StepCost:
    """What the calculations of one kind took in a rehearsal, and will take altogether."""

    name: str
    costs: list[RunCost] = field(default_factory=list)
    n_expected: float = 0.0
    """Calculations of this kind in the whole campaign."""

    @property
    def expected_units(self) -> float:
        """Units (k points x bands x spins x electronic steps) of the whole campaign."""
        return self.n_expected * mean(cost.units for cost in self.costs)


def estimate_costs(databases: Databases, rehearsal: Campaign, campaign: Campaign) -> list[StepCost]:
    """Add up what the rehearsal would have cost, and what the campaign will.

    A rehearsed structure stands for so many of the campaign as there are more of them; known
    phases are calculated once. How many candidates earn a band gap is CHGNet's word.
    """
    units = CampaignUnits(rehearsal)
    phases = {phase.candidate_id for phase in known_phases(rehearsal)}
    with databases.store("outputs", key="uuid") as outputs:
        documents = list(
            outputs.query(
                {
                    "metadata.campaign": {"$in": units.owners},
                    "output.additional_json.rehearsal": {"$exists": True},
                },
                ["metadata", "output.task_label", "output.additional_json.rehearsal"],
            )
        )
    steps: dict[str, StepCost] = defaultdict(lambda: StepCost(""))
    more = _n_structures(campaign) / _n_structures(rehearsal)
    for document in documents:
        of_phase = document["metadata"]["candidate_id"] in phases
        label = document["output"]["task_label"]
        kind = "hybrid" if label == "hybrid" else label.split(" ", 1)[1]
        name = f"known phases, {kind}" if of_phase else kind
        step = steps[name]
        step.name = name
        step.costs.append(
            RunCost.model_validate(document["output"]["additional_json"]["rehearsal"])
        )
        step.n_expected += 1 if of_phase else more
    return sorted(steps.values(), key=lambda step: (step.name.startswith("known"), step.name))


def _n_structures(campaign: Campaign) -> int:
    sampling = campaign.sampling
    per_composition = sampling.structures_per_composition * len(sampling.proposers)
    return len(campaign.target_counts) * per_composition


def print_costs(steps: Sequence[StepCost], core_seconds: float | None) -> None:
    """Print the table of costs; with what a unit takes, in core-hours, too."""
    if not steps:
        note("Nothing was calculated, so there is no cost to tell.")
        return
    table = Table(
        title="What VASP would do: k points x bands x spins x electronic steps",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    columns = ["calculation", "rehearsed", "k points", "bands", "ionic steps"]
    columns += ["electronic steps", "units each", "in the campaign", "units"]
    if core_seconds is not None:
        columns.append("core-hours")
    for name in columns:
        table.add_column(name, justify="left" if name == "calculation" else "right")
    for step in steps:
        costs = step.costs
        row = [step.name, str(len(costs))]
        counts = ("n_kpoints", "n_bands", "n_ionic_steps", "n_electronic_steps")
        row += [f"{mean(getattr(cost, name) for cost in costs):.0f}" for name in counts]
        row += [f"{mean(cost.units for cost in costs):,.0f}", f"{step.n_expected:,.0f}"]
        row.append(f"{step.expected_units:.2e}")
        if core_seconds is not None:
            row.append(f"{step.expected_units * core_seconds / 3600:,.0f}")
        table.add_row(*row)
    out.print(table)
    out.print(
        "k points and bands are VASP's, ionic steps CHGNet's; electronic steps are assumed. "
        "A unit of a hybrid takes longer than one of PBE, by about k points x bands."
    )
