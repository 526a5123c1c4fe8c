"""Run the builders: in this process or in several, counting what changed."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from maggma.utils import grouper

from gan_htvs.results.builders.candidates import CandidateBuilder
from gan_htvs.results.builders.stability import StabilityBuilder
from launchers.launchpad.stores import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from maggma.core import Builder

    from launchers.launchpad.database import Databases

OUTPUT_INDEXES = (
    ("uuid",),
    # Who was judged is counted without a look into the documents, which are large.
    ("metadata.campaign", "metadata.step", "metadata.candidate_id"),
)
"""Fields of the indexes of outputs."""


def builders(databases: Databases) -> tuple[CandidateBuilder, StabilityBuilder]:
    """Make the builders, in the order in which they run."""
    stores = (
        databases.store("outputs", key="uuid"),
        databases.store("campaigns", key="name"),
        databases.store("candidates", key="candidate_id"),
    )
    # A formula has hundreds of candidates, so fewer items are in memory at a time.
    return CandidateBuilder(*stores), StabilityBuilder(*stores, chunk_size=10)


def ensure_indexes(databases: Databases) -> None:
    """Make the indexes that are missing, before the first document comes or after many have."""
    outputs = databases.launchpad().db[OUTPUTS["collection_name"]]
    for fields in OUTPUT_INDEXES:
        outputs.create_index([(field, 1) for field in fields])
    joining, _ = builders(databases)
    joining.connect()
    joining.ensure_indexes()


def build_candidates(
    databases: Databases,
    *,
    n_workers: int = 1,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Bring ``candidates`` up to date; return how many of them changed.

    ``on_progress`` is called with what is built, the number done and the total.
    """
    ensure_indexes(databases)
    joining, comparing = builders(databases)
    with ExitStack() as stack:
        mapping: Callable[..., Iterable[Any]] = map
        if n_workers > 1:
            context = multiprocessing.get_context("spawn")
            executor = ProcessPoolExecutor(n_workers, mp_context=context)
            mapping = stack.enter_context(executor).map
        run_builder(joining, "candidates", on_progress, mapping)
        run_builder(comparing, "formulas", on_progress, mapping)
    comparing.settle()
    return len(joining.changed | comparing.changed)


def run_builder(
    builder: Builder,
    what: str,
    on_progress: Callable[[str, int, int], None] | None = None,
    mapping: Callable[..., Iterable[Any]] = map,
) -> int:
    """Do what ``Builder.run`` does, without its log, its end and its closing of stores."""
    builder.connect()
    done = 0
    for items in grouper(builder.get_items(), builder.chunk_size):
        builder.update_targets(list(mapping(builder.process_item, items)))
        done += len(items)
        if on_progress is not None:
            on_progress(what, done, builder.total or done)
    return done
