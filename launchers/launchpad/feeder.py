"""Queue the workflows of a campaign when they can start, up to a maximum number.

No daemon is needed: the submission feeds the launchpad once, and afterwards the last Firework of
each workflow feeds it again.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from fireworks import FiretaskBase, Firework, Workflow, explicit_serialize
from jobflow.managers.fireworks import flow_to_workflow

from flows.routing import spec_of
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Step
from launchers.launchpad.database import Databases
from launchers.launchpad.jobs import ENDED_STATES
from launchers.launchpad.registry import submissions, workflows_at_once_of
from launchers.launchpad.units import CampaignUnits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.jobs import CampaignLaunchPad
    from launchers.launchpad.units import Chunk, Unit

BATCH = 10
"""Number of workflows added in one request."""


def submit(
    launchpad: CampaignLaunchPad,
    units: Iterable[Unit],
    campaign: Campaign,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Queue units that are not queued yet; return their number.

    Parameters
    ----------
    launchpad
        Launchpad of the campaign.
    units
        Units; read in batches while no other process can feed this launchpad.
    campaign
        Campaign of the units.
    on_progress
        Called with the number of units queued so far.
    """
    added = 0
    remaining = iter(units)
    with launchpad.sole_feeder() as record:
        while batch := list(islice(remaining, BATCH)):
            queued = launchpad.queued(unit.key for unit in batch)
            new = {unit.key: unit for unit in batch if unit.key not in queued}
            if new:
                record(list(new))
                with redirect_stderr(StringIO()):  # progress bar of FireWorks
                    launchpad.bulk_add_wfs([_workflow(unit, campaign) for unit in new.values()])
            added += len(new)
            on_progress(added)
    return added


@explicit_serialize
class ReleaseTask(FiretaskBase):
    """Feed all campaigns that depend on jobs of this owner."""

    required_params = ("owner",)

    def run_task(self, _spec: dict[str, Any]) -> None:
        """Feed the launchpad of this task."""
        feed_all(Databases.of(self.launchpad), self["owner"])


def _workflow(unit: Unit, campaign: Campaign) -> Workflow:
    """Return the workflow of a unit; its last Firework queues units that depend on it."""
    metadata = {"unit": unit.key, "campaign": campaign.name}
    workflow = flow_to_workflow(
        unit.flow,
        store=None,  # a store would be copied into the job, including the password
        allow_external_references=True,
        metadata=metadata,
    )
    if unit.releases is None:
        return workflow
    spec = {
        "campaign": unit.releases,
        "step": Step.RELEASE.value,
        "_add_launchpad_and_fw_id": True,
        "_allow_fizzled_parents": True,
        **spec_of(campaign.routing.other, Step.RELEASE),
    }
    leaves = [workflow.id_fw[fw_id] for fw_id in workflow.leaf_fw_ids]
    tasks = [ReleaseTask(owner=unit.releases)]
    release = Firework(tasks, spec=spec, name="release", parents=leaves)
    return Workflow([*workflow.fws, release], name=workflow.name, metadata=metadata)


class Backlog(NamedTuple):
    """Counts of the units whose outputs are not stored yet."""

    queued: int
    """Units on the launchpad."""
    ready: int
    """Units that can be queued now."""
    later: int
    """Units that are queued when other workflows have ended."""
    waiting: int
    """Units that need the output of another unit."""

    @property
    def missing(self) -> int:
        """Units that are not on the launchpad."""
        return self.ready + self.later + self.waiting


class Feeder:
    """Queues the units of one campaign.

    Parameters
    ----------
    campaign
        Campaign that is registered in these databases.
    databases
        Databases of the launchpad and the outputs.
    """

    def __init__(self, campaign: Campaign, databases: Databases) -> None:
        self.campaign = campaign
        self.databases = databases
        self.launchpad = databases.launchpad()
        self.units = CampaignUnits(campaign)

    def feed(self, on_progress: Callable[[int], None] = lambda _: None) -> int:
        """Queue the units that can start and are not queued yet.

        At most ``workflows_at_once`` workflows of compositions and candidates are unfinished at a
        time; candidates are queued first. No unit is queued twice, even if two processes feed the
        launchpad.

        Parameters
        ----------
        on_progress
            Called with the number of units queued so far.

        Returns
        -------
        Number of units that were queued.
        """
        return submit(self.launchpad, self._startable(), self.campaign, on_progress)

    def backlog(self) -> Backlog:
        """Count the units whose outputs are not stored yet."""
        backlog, _ = self._plan()
        return backlog

    def _plan(self) -> tuple[Backlog, list[str | Chunk]]:
        """Return the backlog, and the units that can be queued as keys (stage one) and chunks."""
        units, name = self.units, self.campaign.name
        keys = {*units.shared, *units.trainings, *units.compositions}
        stored = self.databases.stored(keys)
        queued = self.launchpad.queued(keys - stored)
        done = stored | queued
        ready: list[str | Chunk] = [key for key in units.shared if key not in done]
        bounded: list[str | Chunk] = [*units.chunks(self.databases)]
        waiting: list[str] = []
        needed = {*units.shared}
        for training, compositions in units.open_rounds(stored, self.databases):
            if training is not None:
                if training not in done:
                    (ready if needed <= stored else waiting).append(training)
                needed.add(training)
            missing = [key for key in compositions if key not in done]
            (bounded if needed <= stored else waiting).extend(missing)
            needed |= {*compositions}
        bound = workflows_at_once_of(self.databases, name)
        room = max(0, bound - self.launchpad.n_open_workflows(name))
        ready += bounded[:room]
        open_candidates = self.launchpad.candidates(name, except_states=ENDED_STATES)
        backlog = Backlog(
            queued=len(queued) + len(open_candidates),
            ready=len(ready),
            later=len(bounded[room:]),
            waiting=len(waiting),
        )
        return backlog, ready

    def _startable(self) -> Iterator[Unit]:
        """Yield the units that may be queued.

        The launchpad is read when the first unit is requested, while no other process can feed it.
        """
        _, ready = self._plan()
        for part in ready:
            yield self.units.unit(part, self.databases)


def feed_all(databases: Databases, owner: str | None = None) -> int:
    """Feed all submitted campaigns.

    Parameters
    ----------
    databases
        Databases of the campaigns.
    owner
        Name of a campaign or uuid of a shared job; only campaigns with this owner are fed; None:
        all campaigns.

    Returns
    -------
    Number of units that were queued.

    Raises
    ------
    UserError
        If a campaign cannot be fed; the other campaigns are fed nevertheless.
    """
    added, problems = 0, []
    for campaign, submission in submissions(databases):
        if submission and (owner is None or owner in submission["owners"]):
            try:
                added += Feeder(campaign, databases).feed()
            except UserError as error:
                problems.append(f"campaign {campaign.name}: {error}")
    if problems:
        raise UserError(" ".join(problems))
    return added
