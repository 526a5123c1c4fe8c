"""Typed queries of the ``candidates`` collection."""

from __future__ import annotations

import math
from functools import cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from maggma.stores import MongoStore
from maggma.utils import grouper
from pydantic import ValidationError, create_model
from pymongo.collection import Collection

from gan_htvs.core.document import Document, decode, without_id
from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import first_problem
from gan_htvs.results.filters import SORTABLE, Filters, field_path, is_selective
from gan_htvs.results.funnel import crystal_id, energy_order, first_of_each_crystal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from maggma.core import Store

    from gan_htvs.core.candidate import Candidate

SYMMETRIES = ("symmetry", "tight_symmetry")
"""Fields with the symmetry of a candidate at two tolerances."""

SUMMARY_FIELDS = (
    "candidate_id",
    "campaign",
    "formula_pretty",
    "nsites",
    *(f"{name}.{key}" for name in SYMMETRIES for key in ("symbol", "number", "symprec")),
    "failure.folder",
    "oxidation_states.average",
    "density",
    "volume_per_atom",
    "total_magnetization",
    "properties",
    "origin.proposer",
    "origin.round",
    "origin.label",
    "origin.requested_composition",
    "energy_above_hull",
    "decomposition_energy",
    "reference_decomposition_energy",
    "energy_incomplete",
    "uncovered_subsystems",
    "novelty.is_novel",
    "novelty.reference_match",
    "duplicate_of",
    "pourbaix.minimum",
    "band_gap",
    "incomplete_band_gap",
    "band_gap_method",
    "band_gap_reason",
    "level_of_theory",
    "stage",
    "reason",
)
"""Fields of a table row, without structures."""

STABILITY = "energy_above_hull"

BY_STABILITY = (STABILITY, "decomposition_energy", "candidate_id")
"""Sort keys of the order by energy above hull, which is zero for all stable phases."""

INDEXES = (
    *(
        tuple((name, 1) for name in (path, *BY_STABILITY))
        for path in ("formula_pretty", "stage", "chemsys", "campaign")
    ),
    tuple((name, 1) for name in BY_STABILITY),
    *(((path, 1), ("candidate_id", 1)) for path in ("band_gap", "pourbaix.minimum")),
    (("duplicate_of", 1),),
)
"""Indexes of the candidates collection besides its key, which the builder creates. The filter field
comes first, then the sort key; the last index finds the duplicates of a crystal."""

MAX_CANDIDATES = 1_000_000_000
"""Maximum of ``skip`` and ``limit``."""

CRYSTAL_FIELDS = ("candidate_id", "duplicate_of", STABILITY, "decomposition_energy")
"""Fields that identify the crystal of a candidate and its lowest-energy candidate."""

CRYSTAL_BATCH = 100
"""Number of candidates whose crystals are fetched in one query."""

REQUIRED_FIELDS = ("formula_pretty", "stage", "last_updated", "candidate_id", "nsites")
"""Sort keys that every candidate has."""

WINDOWS = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
"""Bounds of energy windows, eV/atom, that are queried in turn when sorting by energy: a server that
sorts in memory then has few documents to sort."""


class CandidateStore:
    """Query the candidates of one or all campaigns.

    Parameters
    ----------
    store
        The ``candidates`` collection, as a maggma store or a pymongo collection. It is never
        written.

    Examples
    --------
    >>> store = CandidateStore(pymongo.MongoClient(port=27027)["gan_htvs"]["candidates"])
    >>> store.query(chemsys="Mg-Mn-O", energy_above_hull=(None, 0.08), band_gap=(1.6, 3.0))
    """

    def __init__(self, store: Store | Collection[dict[str, Any]]) -> None:
        self._store: Store = (
            MongoStore.from_collection(store) if isinstance(store, Collection) else store
        )
        self._store.connect()

    def query(
        self,
        *,
        sort: str = STABILITY,
        skip: int = 0,
        limit: int = 0,
        fields: Sequence[str] | None = None,
        **filters: Any,
    ) -> list[Candidate]:
        """Return candidates as documents with pymatgen structures.

        Parameters
        ----------
        sort
            One of :data:`gan_htvs.results.filters.SORTABLE`, with the prefix ``-`` for descending
            order. Candidates without a value come last, such as those with an implausible energy.
        skip, limit
            Number of candidates to skip, and maximum number to return; 0 returns all.
        fields
            Fields of :class:`~gan_htvs.core.candidate.Candidate` to load; queries without
            structures are faster. None: all fields.
        filters
            Fields of :class:`gan_htvs.results.filters.Filters`. ``unique`` applies after all other
            filters and keeps the lowest-energy candidate of each crystal.

        Raises
        ------
        UserError
            If a filter, sort key or field is invalid.
        """
        model = _model(None if fields is None else tuple(fields))
        documents = self._documents(Filters.from_values(**filters), sort, skip, limit, fields)
        return [model.model_validate(decode(document)) for document in documents]

    def rows(
        self, *, sort: str = STABILITY, skip: int = 0, limit: int = 0, **filters: Any
    ) -> list[dict[str, Any]]:
        """Return candidates as dictionaries without structures; see :meth:`query`."""
        checked = Filters.from_values(**filters)
        return list(self._documents(checked, sort, skip, limit, SUMMARY_FIELDS))

    def count(self, **filters: Any) -> int:
        """Return the number of matching candidates; see :meth:`query`."""
        checked = Filters.from_values(**filters)
        criteria = checked.criteria()
        if checked.unique:
            documents = self._store.query(criteria, list(CRYSTAL_FIELDS))
            return len({crystal_id(document) for document in documents})
        return int(self._store.count(criteria or None))

    def get(self, candidate_id: str) -> Candidate | None:
        """Return a candidate by its id; None if it does not exist."""
        document = self._store.query_one({"candidate_id": str(candidate_id)})
        return candidate_from_document(document) if document else None

    def explain(self, *, sort: str = STABILITY, **filters: Any) -> dict[str, Any]:
        """Return the server's plan for the first part of the same :meth:`query`."""
        criteria = Filters.from_values(**filters).criteria()
        first, keys = next(_parts(criteria, *_order(sort), has_limit=True))
        collection = self._store._collection  # noqa: SLF001 - maggma cannot explain
        plan: dict[str, Any] = collection.find(first).sort(keys).explain()
        return plan

    def _documents(
        self, filters: Filters, sort: str, skip: int, limit: int, fields: Sequence[str] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield documents in order; those without a value of the sort key come last."""
        if not (0 <= skip <= MAX_CANDIDATES and 0 <= limit <= MAX_CANDIDATES):
            raise UserError(f"skip and limit must be from 0 to {MAX_CANDIDATES:,}.")
        end = skip + limit if limit else None
        properties = None if fields is None else list(fields)
        if filters.unique:
            properties = properties and sorted({*properties, *CRYSTAL_FIELDS})
        n_each = 0 if filters.unique or end is None else end
        criteria, (path, direction) = filters.criteria(), _order(sort)
        parts = _parts(criteria, path, direction, has_limit=bool(limit))
        documents: Iterator[dict[str, Any]] = (
            without_id(document)
            for part, keys in parts
            for document in self._store.query(part, properties, sort=dict(keys), limit=n_each)
        )
        if filters.unique:
            documents = self._unique(documents, criteria, sort, bool(limit))
        return islice(documents, skip, end)

    def _unique(
        self,
        documents: Iterable[dict[str, Any]],
        criteria: dict[str, Any],
        sort: str,
        has_limit: bool,
    ) -> Iterator[dict[str, Any]]:
        """Yield the lowest-energy candidate of each crystal among the results of a query.

        This is not left to the server: SecantusDB takes a millisecond per value of ``$in``, and
        grouping documents there takes as long as sending them.
        """
        if sort == STABILITY:
            yield from first_of_each_crystal(documents)
            return
        for batch in grouper(documents, CRYSTAL_BATCH) if has_limit else [list(documents)]:
            duplicates = batch
            if has_limit:
                ids = {"$in": sorted({crystal_id(document) for document in batch})}
                duplicates = [
                    duplicate
                    for path in ("candidate_id", "duplicate_of")
                    for duplicate in self._store.query({path: ids} | criteria, list(CRYSTAL_FIELDS))
                ]
            lowest = first_of_each_crystal(sorted(duplicates, key=energy_order))
            lowest_ids = {document["candidate_id"] for document in lowest}
            yield from (document for document in batch if document["candidate_id"] in lowest_ids)


def candidate_from_document(document: dict[str, Any]) -> Candidate:
    """Return the candidate of a stored document.

    Raises
    ------
    UserError
        If the document was written by an incompatible version.
    """
    from gan_htvs.core.candidate import Candidate  # noqa: PLC0415 - slow

    try:
        return Candidate.model_validate(decode(without_id(document)))
    except ValidationError as error:
        raise UserError(
            f"candidate {document.get('candidate_id')}: was stored by another version of gan-htvs "
            f"({first_problem(error)}); use a new database (another `name` in my_launchpad.yaml)."
        ) from error


@cache
def _model(fields: tuple[str, ...] | None) -> type[Any]:
    """Return a model with only the given fields of a candidate."""
    from gan_htvs.core.candidate import Candidate  # noqa: PLC0415 - slow

    if fields is None:
        return Candidate
    known = Candidate.model_fields
    for field in fields:
        if field not in known:
            raise UserError(f"fields: {field!r} is not one of {', '.join(known)}.")
    chosen: dict[str, Any] = {name: (known[name].annotation, known[name]) for name in fields}
    return create_model("PartialCandidate", __base__=Document, **chosen)


def _order(sort: str) -> tuple[str, int]:
    name = sort.removeprefix("-")
    if name not in SORTABLE:
        raise UserError(f"sort: {name!r} is not one of {', '.join(SORTABLE)}.")
    return field_path(name), -1 if sort.startswith("-") else 1


def _keys(path: str, direction: int) -> list[tuple[str, int]]:
    names = BY_STABILITY if path == STABILITY else dict.fromkeys((path, "candidate_id"))
    return [(name, direction) for name in names]


def _parts(
    criteria: dict[str, Any],
    path: str,
    direction: int,
    *,
    has_limit: bool,
) -> Iterator[tuple[dict[str, Any], list[tuple[str, int]]]]:
    """Split a query into queries whose concatenated results are in order.

    Missing values come last; MongoDB would sort them first.
    """
    keys, by_id = _keys(path, direction), _keys("candidate_id", 1)
    if path in REQUIRED_FIELDS:
        yield criteria, keys
        return
    others = {key: value for key, value in criteria.items() if key != path}
    selective = is_selective(others)

    def part(more: dict[str, Any]) -> dict[str, Any]:
        # The most selective criterion comes first, see Filters.criteria.
        return others | more if selective else more | others

    bounds = criteria.get(path, {})
    low, high = bounds.get("$gte", -math.inf), bounds.get("$lt", math.inf)
    in_windows = path == STABILITY and has_limit and not selective
    edges = (-math.inf, *(WINDOWS if in_windows else ()), math.inf)
    parts = []
    for window in pairwise(edges):
        first, end = max(low, window[0]), min(high, window[1])
        if first < end:
            parts.append((part({path: _between(first, end)}), keys))
    yield from parts[::direction]
    if path not in criteria:
        missing = {path.partition(".")[0]: None}
        # Most candidates have no gap: any other criterion is more selective.
        yield (others | missing if len(others) > 1 else missing | others), by_id


def _between(first: float, end: float) -> dict[str, float]:
    return {"$gte": first} if end == math.inf else {"$gte": first, "$lt": end}
