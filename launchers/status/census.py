"""What the databases hold of one campaign, counted where the data is: no job is read whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.candidate import CALCULATIONS, KNOWN_PHASE, ScreeningStep, Stage, Step
from gan_htvs.funnel import CANDIDATE_FIELDS, Funnel, measure_funnel
from launchers.launchpad import last_line, moment
from launchers.samples import longest_samples, n_structures
from launchers.status.document import FailureCount, JobCount, Throughput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pymongo.database import Database

    from gan_htvs.campaign import Campaign

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SHORTEST = timedelta(minutes=1)
"""A rate over less than this is no rate."""

STEPS = list(Step)


class Proposed(NamedTuple):
    """What the samplers left."""

    known_phases: list[str]
    """Ids."""
    n_given_up: int
    """Structures that they were asked for and did not find."""


class Finished(NamedTuple):
    """What was finished in some time."""

    n_jobs: int
    n_verdicts: int
    """Of gates, those of known phases left out, and of prescreens."""


class Jobs(NamedTuple):
    """The jobs of a campaign."""

    counts: tuple[JobCount, ...]
    """In the order of the funnel."""
    began_on: datetime | None
    """When the first one was queued."""
    hour: Finished
    day: Finished

    def throughput(self, n_verdicts: int, now: datetime) -> tuple[Throughput, ...]:
        """Tell what was finished in the last hour, in the last day and since the beginning."""
        age = max(now - self.began_on, SHORTEST) if self.began_on else SHORTEST
        n_completed = sum(job.n for job in self.counts if job.state == "COMPLETED")
        counts = [self.hour, self.day, Finished(n_completed, n_verdicts)]
        if self.began_on is None:  # what came out of an archive took no time here
            counts = [Finished(0, 0)] * len(counts)
        finished = zip((HOUR, DAY, age), counts, strict=True)
        return tuple(
            Throughput(hours=min(span, age) / HOUR, n_jobs=each.n_jobs, n_verdicts=each.n_verdicts)
            for span, each in finished
        )


class Built(NamedTuple):
    """What the builders made of the verdicts."""

    on: datetime | None
    """Last change of a document."""
    n_judged: int
    """Candidates and known phases that the builders know to be judged."""
    has_lacking: bool
    """Whether a candidate failed or lacks a band gap."""
    funnel: Funnel


@dataclass(frozen=True)
class Census:
    """Queries about one campaign.

    Parameters
    ----------
    database
        Where everything is.
    campaign
        Its name labels its own jobs.
    owners
        Labels of all its jobs, shared ones included.
    """

    database: Database[Any]
    campaign: Campaign
    owners: Sequence[str]

    @property
    def of_owners(self) -> dict[str, Any]:
        """Condition that a Firework belongs to the campaign."""
        return {"spec.campaign": {"$in": list(self.owners)}}

    def proposed(self) -> Proposed:
        """Read which candidates are reference phases, and how many structures are lacking."""
        fields = [f"output.{name}" for name in ("stream", "requested", "tried")]
        samples = self.database.outputs.find(
            self._outputs_of(Step.PROPOSE), [*fields, "output.proposals.candidate_id"]
        )
        lacking = (
            sample["requested"] - n_structures(sample)
            for sample in longest_samples(each["output"] for each in samples).values()
        )
        known = self.database.outputs.distinct(
            "metadata.candidate_id",
            self._outputs_of(Step.GATE) | {"output.origin.proposer": KNOWN_PHASE},
        )
        return Proposed(known, sum(max(n, 0) for n in lacking))

    def judged(self) -> set[str]:
        """Ids of the candidates with a verdict, reference phases and rejected ones included."""
        gates: list[dict[str, Any]] = [
            {"$match": self._outputs_of(Step.GATE)},
            {"$group": {"_id": "$metadata.candidate_id"}},
        ]
        judged = {gate["_id"] for gate in self.database.outputs.aggregate(gates)}
        screened = self.database.outputs.find(
            self._outputs_of(Step.PRESCREEN),
            ["output.screened.verdict.candidate_id", "output.screened.verdict.rejected_at"],
        )
        for batch in screened:
            verdicts = [each["verdict"] for each in batch["output"]["screened"]]
            judged |= {each["candidate_id"] for each in verdicts if each.get("rejected_at")}
        selections = self.database.outputs.find(
            self._outputs_of(Step.SELECT), ["output.rejected.candidate_id"]
        )
        for selection in selections:
            judged |= {each["candidate_id"] for each in selection["output"].get("rejected", ())}
        return judged

    def jobs(self, known_phases: Collection[str], now: datetime) -> Jobs:
        """Count jobs, in one walk over them.

        Parameters
        ----------
        known_phases
            Ids of candidates whose gates are no verdicts.
        now
            The time.
        """
        # A completed Firework was last updated when its launch ended.
        since = [(now - span).astimezone(UTC).isoformat() for span in (HOUR, DAY)]
        left = [self._left_in_prescreen(now - span) for span in (HOUR, DAY)]
        groups = list(
            self.database.fireworks.aggregate(
                [
                    {"$match": self.of_owners},
                    {
                        "$group": {
                            "_id": {
                                "step": "$spec.step",
                                "state": "$state",
                                "category": "$spec._category",
                                "is_known": {"$in": ["$spec.candidate_id", list(known_phases)]},
                            },
                            "n": {"$sum": 1},
                            "since": {"$min": "$updated_on"},
                            "began": {"$min": "$created_on"},
                            **{
                                name: {"$sum": {"$cond": [{"$gte": ["$updated_on", time]}, 1, 0]}}
                                for name, time in zip(("hour", "day"), since, strict=True)
                            },
                        }
                    },
                ]
            )
        )
        counts: dict[tuple[Step, str, str | None], JobCount] = {}
        for group in groups:
            kind = group["_id"]
            key = Step(kind["step"]), kind["state"], kind.get("category")
            n, start = group["n"], moment(group["since"])
            if (before := counts.get(key)) is not None:
                n, start = n + before.n, min(start, before.since)
            counts[key] = JobCount(step=key[0], state=key[1], category=key[2], n=n, since=start)
        return Jobs(
            tuple(sorted(counts.values(), key=lambda c: (STEPS.index(c.step), c.state))),
            min((moment(group["began"]) for group in groups), default=None),
            *(_finished(groups, name, n) for name, n in zip(("hour", "day"), left, strict=True)),
        )

    def _left_in_prescreen(self, since: datetime) -> int:
        """Count the candidates that prescreens judged, for which no gate ran."""
        found = self.database.outputs.find(
            self._outputs_of(Step.PRESCREEN)
            # As jobflow writes it: local time, without saying so.
            | {"completed_at": {"$gte": since.astimezone().replace(tzinfo=None).isoformat()}},
            ["output.counts"],
        )
        counts = [each["output"]["counts"] for each in found]
        return sum(
            each.get(rejected_at.value, 0) for each in counts for rejected_at in ScreeningStep
        )

    def built(self) -> Built:
        """Read what the builders left."""
        mine = {"campaign": self.campaign.name}
        rows = list(self.database.candidates.find(mine, [*CANDIDATE_FIELDS, "last_updated"]))
        changes = [moment(row["last_updated"]) for row in rows if row.get("last_updated")]
        return Built(
            max(changes, default=None),
            sum(row["stage"] != Stage.GENERATED for row in rows),
            any(
                row["stage"] == Stage.FAILED
                or (row["stage"] == Stage.POURBAIX_STABLE and row.get("band_gap") is None)
                for row in rows
            ),
            measure_funnel(rows, self.campaign),
        )

    def fizzled(self) -> list[FailureCount]:
        """Group the jobs that raised by step and last line of their traceback."""
        jobs = {
            job["launches"][-1]: job
            for job in self.database.fireworks.find(
                self.of_owners | {"state": "FIZZLED"},
                {"fw_id": 1, "spec.step": 1, "launches": 1},
            )
            if job["launches"]
        }
        launches = self.database.launches.find(
            {"launch_id": {"$in": list(jobs)}},
            {"launch_id": 1, "launch_dir": 1, "host": 1, "action.stored_data._exception": 1},
        )
        counts: Counter[tuple[Step, str]] = Counter()
        examples = {}
        for launch in launches:
            job = jobs[launch["launch_id"]]
            kind = Step(job["spec"]["step"]), last_line(launch)
            counts[kind] += 1
            examples[kind] = f"fw_id {job['fw_id']}, {launch['host']}:{launch['launch_dir']}"
        return [
            FailureCount(kind="job", step=kind[0], reason=kind[1], n=n, example=examples[kind])
            for kind, n in counts.most_common()
        ]

    def holding_up(self) -> list[int]:
        """Find the jobs that raised and keep others from being queued or judged.

        A candidate whose calculation raised is judged all the same; a known phase is not.
        """
        calculations = [step.value for step in CALCULATIONS]
        others = {
            "$or": [
                {"spec.campaign": {"$ne": self.campaign.name}},
                {"spec.step": {"$not": {"$in": calculations}}},
            ]
        }
        return sorted(
            self.database.fireworks.distinct(
                "fw_id", self.of_owners | {"state": "FIZZLED"} | others
            )
        )

    def _outputs_of(self, step: Step) -> dict[str, Any]:
        return {"metadata.campaign": self.campaign.name, "metadata.step": step.value}


def _finished(groups: Iterable[dict[str, Any]], span: str, n_left: int) -> Finished:
    """Add up what was finished within a span, besides those that left before their gate."""
    completed = [group for group in groups if group["_id"]["state"] == "COMPLETED"]
    verdicts = [
        group
        for group in completed
        if group["_id"]["step"] == Step.GATE and not group["_id"]["is_known"]
    ]
    n_jobs, n_gates = (sum(group[span] for group in those) for those in (completed, verdicts))
    return Finished(n_jobs, n_gates + n_left)
