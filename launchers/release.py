"""The last Firework of a workflow that others wait for: it queues what may start now.

So a campaign goes on from one workflow to the next by itself, with no process that watches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fireworks import FiretaskBase, Firework, explicit_serialize

from flows.routing import routed
from gan_htvs.candidate import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.routing import Category


@explicit_serialize
class ReleaseTask(FiretaskBase):
    """Queue the units of all campaigns that have waited for this owner's work."""

    required_params = ("owner",)

    def run_task(self, _spec: dict[str, Any]) -> None:
        """Feed the launchpad that the task was taken from."""
        # Imported here because a launchpad makes these tasks.
        from launchers.database import Databases  # noqa: PLC0415
        from launchers.feeder import feed_all  # noqa: PLC0415

        feed_all(Databases.of(self.launchpad), self["owner"])


def release(owner: str, category: Category, parents: Sequence[Firework]) -> Firework:
    """Make the Firework that comes after all others, even those that failed."""
    spec = {
        "campaign": owner,
        "step": Step.RELEASE.value,
        "_add_launchpad_and_fw_id": True,
        "_allow_fizzled_parents": True,
        **routed(category, Step.RELEASE),
    }
    return Firework([ReleaseTask(owner=owner)], spec=spec, name="release", parents=list(parents))
