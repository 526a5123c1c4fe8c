"""Run the builders of candidates in one or several processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from maggma.utils import grouper

from gan_htvs.results.builders.candidates import CandidateBuilder
from gan_htvs.results.builders.stability import StabilityBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from maggma.core import Builder

    from launchers.launchpad.database import Databases


def builders(databases: Databases) -> tuple[CandidateBuilder, StabilityBuilder]:
    """Return the builders in the order in which they run."""
    stores = (
        databases.store("outputs", key="uuid"),
        databases.store("campaigns", key="name"),
        databases.store("candidates", key="candidate_id"),
    )
    # An item is a formula with hundreds of candidates, which limits the chunk size.
    return CandidateBuilder(*stores), StabilityBuilder(*stores, chunk_size=10)


def ensure_indexes(databases: Databases) -> None:
    """Create missing indexes of outputs and of the builders' collections."""
    candidate_builder, _ = builders(databases)
    candidate_builder.connect()
    candidate_builder.ensure_indexes()


def build_candidates(
    databases: Databases,
    *,
    n_workers: int = 1,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Update ``candidates``; return the number of changed documents.

    ``on_progress`` is called with the kind of items, the number done and the total.
    """
    candidate_builder, stability_builder = builders(databases)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, context) if n_workers > 1 else nullcontext()
    with pool as executor:
        mapping = executor.map if executor else map
        run_builder(candidate_builder, "candidates", on_progress, mapping)
        run_builder(stability_builder, "formulas", on_progress, mapping)
    stability_builder.settle()
    return len(candidate_builder.changed | stability_builder.changed)


def run_builder(
    builder: Builder,
    what: str,
    on_progress: Callable[[str, int, int], None] | None = None,
    mapping: Callable[..., Iterable[Any]] = map,
) -> int:
    """Run a builder like ``Builder.run``, but without logging, finalizing and closing stores."""
    builder.connect()
    done = 0
    for items in grouper(builder.get_items(), builder.chunk_size):
        builder.update_targets(list(mapping(builder.process_item, items)))
        done += len(items)
        if on_progress is not None:
            on_progress(what, done, builder.total or done)
    return done
