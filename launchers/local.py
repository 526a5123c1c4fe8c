"""Run a whole campaign on this machine: units in their order, progress, interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from gan_htvs.candidate import Step
from gan_htvs.errors import UserError
from gan_htvs.files import locked
from launchers.builders import build_candidates, ensure_indexes
from launchers.failures import RETRIED, failed_calculations, queue_again
from launchers.feeder import Feeder, submit
from launchers.gaps import missing_gaps
from launchers.launchpad import ACTIVE_STATES
from launchers.locks import BUSY_LOCK_SECONDS, Locks
from launchers.pool import WorkerPool
from launchers.recovery import Recovery
from launchers.registry import register

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

POLL_SECONDS = 1.0
IDLE_POLLS = 2
"""A job's children become ready a moment after it ends, so idleness must last."""

Watcher: TypeAlias = Callable[[Counter[tuple[str, str]]], None]
"""Called at every poll with the number of jobs by step and state."""


@dataclass
class LocalRun:
    """A campaign on this machine.

    Parameters
    ----------
    campaign
        What to run.
    databases
        Where everything is kept; must be reachable.
    launchpad_file
        The file that names them, for the workers.
    directory
        Job directories and worker logs.
    n_workers
        Worker processes.
    watch
        Called at every poll.
    tell
        Called with a sentence that the user should see.
    """

    campaign: Campaign
    databases: Databases
    launchpad_file: Path
    directory: Path
    n_workers: int
    watch: Watcher
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self._feeder = Feeder(self.campaign, self.databases)

    def run(self) -> None:
        """Go on from wherever an earlier run stopped until nothing is left to do.

        Raises
        ------
        UserError
            If workers keep dying, or references or training fail.
        """
        with self._alone():
            register(self.campaign, self.databases)
            launchpad = self._feeder.launchpad
            launchpad.initialise()
            ensure_indexes(self.databases)
            self._take_up(launchpad)
            began = datetime.now()  # noqa: DTZ005 - as jobflow writes it
            self._work(launchpad, self._feeder.feed)
            if self._feeder.backlog().missing:
                self._refuse_to_end(launchpad)
            build_candidates(self.databases)
            gaps = missing_gaps(self.campaign, self.databases, before=began)
            self._work(launchpad, lambda: submit(launchpad, gaps, self.campaign))
            build_candidates(self.databases)

    def _take_up(self, launchpad: CampaignLaunchPad) -> None:
        """Queue again what was lost or failed, and name whom we wait for."""
        owners = self._feeder.units.owners
        recovery = self._recovery(launchpad)
        # Whoever is gone was stopped with the run before; no job is to blame for it.
        replace(recovery, blames=False).recover()
        launchpad.retry(list(self._feeder.units.shared), Step)
        launchpad.retry(owners, RETRIED)
        engines = self.campaign.engines
        if "vasp" in (engines.energy.name, engines.band_gap.name):
            build_candidates(self.databases)
            failed = failed_calculations(self.databases, self.campaign)
            queue_again(launchpad, [each for each in failed if each.is_retryable])
        if elsewhere := recovery.elsewhere():
            self.tell(
                f"Jobs of this campaign run on other machines ({', '.join(elsewhere)}); should "
                "those be dead, `gan-htvs recover --silent-for 0` queues their jobs again."
            )

    def _recovery(self, launchpad: CampaignLaunchPad) -> Recovery:
        embedded = self.databases.settings.embedded_storage is not None
        return Recovery(launchpad, self._feeder.units.owners, everyone_is_here=embedded)

    def _work(self, launchpad: CampaignLaunchPad, feed: Callable[[], int]) -> None:
        """Queue what there is to do, and see it through until there is no more."""
        owners = self._feeder.units.owners
        feed()
        if not launchpad.is_busy(owners):
            return
        recovery, locks = self._recovery(launchpad), Locks(launchpad)
        with WorkerPool(self.n_workers, self.launchpad_file, self.directory, owners) as pool:
            idle_polls = 0
            # A release that was lost must not be the end of the campaign.
            while idle_polls < IDLE_POLLS or feed():
                time.sleep(POLL_SECONDS)
                pool.replace_dead(recovery)
                for loss in recovery.half_taken():
                    recovery.cure(loss)
                locks.finish_abandoned(BUSY_LOCK_SECONDS)
                states = launchpad.states(owners)
                busy = any(state in ACTIVE_STATES for _, state in states)
                idle_polls = 0 if busy else idle_polls + 1
                self.watch(states)

    def _refuse_to_end(self, launchpad: CampaignLaunchPad) -> None:
        failures = launchpad.failures(list(self._feeder.units.shared))
        reason = "; ".join(f"{each.name}: {each.trace}" for each in failures)
        raise UserError(
            f"{self._feeder.backlog().missing} parts of the campaign cannot start because what "
            f"they need failed: {reason or 'no job raised'}"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory of this campaign against a second run."""
        try:
            for folder in ("launches", "logs"):
                (self.directory / folder).mkdir(parents=True, exist_ok=True)
            lock = locked(self.directory / "run.lock")
        except BlockingIOError as error:
            raise UserError(
                f"Another run of campaign {self.campaign.name!r} is using {self.directory}."
            ) from error
        except OSError as error:
            raise UserError(
                f"{self.directory}: cannot write here ({error.strerror}); choose another --workdir."
            ) from error
        with lock:
            yield
