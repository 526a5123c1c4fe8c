"""What the databases hold of one campaign, counted where the data is: no job is read whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.candidate import KNOWN_PHASE, Stage, Step
from gan_htvs.failures import CalculationFailure
from gan_htvs.funnel import CANDIDATE_FIELDS, Funnel, measure_funnel
from launchers.launchpad import last_line, moment
from launchers.status.document import FailureCount, JobCount, Throughput

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pymongo.database import Database

    from gan_htvs.campaign import Campaign

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SHORTEST = timedelta(minutes=1)
"""A rate over less than this is no rate."""

STEPS = list(Step)


class Verdicts(NamedTuple):
    """Who was judged."""

    n_candidates: int
    known_phases: list[str]
    """Ids of the known phases among the judged."""


class Built(NamedTuple):
    """What the builders made of the verdicts."""

    on: datetime | None
    """Last change of a document."""
    n_judged: int
    """Candidates and known phases that the builders know to be judged."""
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

    def jobs(self) -> tuple[JobCount, ...]:
        """Count jobs by step, state and category, in the order of the funnel."""
        groups = self.database.fireworks.aggregate(
            [
                {"$match": self.of_owners},
                {
                    "$group": {
                        "_id": {
                            "step": "$spec.step",
                            "state": "$state",
                            "category": "$spec._category",
                        },
                        "n": {"$sum": 1},
                        "since": {"$min": "$updated_on"},
                    }
                },
            ]
        )
        counts = [
            JobCount(
                step=Step(group["_id"]["step"]),
                state=group["_id"]["state"],
                category=group["_id"].get("category"),
                n=group["n"],
                since=moment(group["since"]),
            )
            for group in groups
        ]
        return tuple(sorted(counts, key=lambda c: (STEPS.index(c.step), c.state, c.category or "")))

    def first_queued(self) -> datetime | None:
        """When the first job was queued; None if none was."""
        first = self.database.fireworks.find_one(
            self.of_owners, {"created_on": 1}, sort=[("fw_id", 1)]
        )
        return first and moment(first["created_on"])

    def verdicts(self) -> Verdicts:
        """Count the candidates that a gate has judged, each once."""
        gates = self._outputs_of(Step.GATE)
        of_known = gates | {"output.origin.proposer": KNOWN_PHASE}
        known = self.database.outputs.distinct("metadata.candidate_id", of_known)
        others = gates | {"metadata.candidate_id": {"$not": {"$in": known}}}
        return Verdicts(self._count_distinct("outputs", others, "metadata.candidate_id"), known)

    def given_up(self) -> int:
        """Count the structures that the proposers were asked for and did not find."""
        shards = self.database.outputs.aggregate(
            [
                {"$match": self._outputs_of(Step.PROPOSE) | {"output.stream": {"$exists": True}}},
                {
                    "$project": {
                        "stream": "$output.stream",
                        "requested": "$output.requested",
                        "found": {"$size": "$output.proposals"},
                    }
                },
            ]
        )
        # A shard that was asked for more later holds all that the earlier one had.
        longest: dict[str, dict[str, int]] = {}
        for shard in sorted(shards, key=lambda shard: shard["requested"]):
            longest[shard["stream"]] = shard
        return sum(max(each["requested"] - each["found"], 0) for each in longest.values())

    def throughput(
        self, began_on: datetime | None, verdicts: Verdicts, n_completed: int, now: datetime
    ) -> tuple[Throughput, ...]:
        """Count what was finished in the last hour, in the last day and since it began."""
        age = max(now - began_on, SHORTEST) if began_on else SHORTEST
        spans = [min(span, age) for span in (HOUR, DAY)]
        return (
            *(self._finished(now - span, span, verdicts.known_phases) for span in spans),
            Throughput(hours=age / HOUR, n_jobs=n_completed, n_verdicts=verdicts.n_candidates),
        )

    def _finished(self, since: datetime, span: timedelta, known: Collection[str]) -> Throughput:
        # A completed Firework was last updated when its launch ended.
        recent = self.of_owners | {
            "state": "COMPLETED",
            "updated_on": {"$gte": since.astimezone(UTC).isoformat()},
        }
        gates = recent | {
            "spec.step": Step.GATE.value,
            "spec.candidate_id": {"$not": {"$in": list(known)}},
        }
        return Throughput(
            hours=span / HOUR,
            n_jobs=self.database.fireworks.count_documents(recent),
            n_verdicts=self._count_distinct("fireworks", gates, "spec.candidate_id"),
        )

    def built(self) -> Built:
        """Read what the builders left."""
        mine = {"campaign": self.campaign.name}
        rows = list(self.database.candidates.find(mine, [*CANDIDATE_FIELDS, "last_updated"]))
        changes = [moment(row["last_updated"]) for row in rows if row.get("last_updated")]
        return Built(
            max(changes, default=None),
            sum(row["stage"] != Stage.GENERATED for row in rows),
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
        calculations = [Step.RELAX.value, Step.STATIC.value, Step.HYBRID.value]
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

    def has_failed_calculations(self) -> bool:
        """Whether any calculation has left a failure in place of a result."""
        failure = {"output.@class": CalculationFailure.__name__}
        of_owners = {"metadata.campaign": {"$in": list(self.owners)}}
        return self.database.outputs.find_one(of_owners | failure, {"_id": 1}) is not None

    def _outputs_of(self, step: Step) -> dict[str, Any]:
        return {"metadata.campaign": self.campaign.name, "metadata.step": step.value}

    def _count_distinct(self, collection: str, condition: dict[str, Any], field: str) -> int:
        distinct: list[dict[str, Any]] = [
            {"$match": condition},
            {"$group": {"_id": f"${field}"}},
            {"$group": {"_id": None, "n": {"$sum": 1}}},
        ]
        return sum(found["n"] for found in self.database[collection].aggregate(distinct))
