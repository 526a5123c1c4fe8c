"""The results store: typed access to the candidates collection."""

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
from gan_htvs.results.filters import SORTABLE, Filters, is_narrow, path_of
from gan_htvs.results.funnel import crystal, energy_order, first_of_each_crystal
from gan_htvs.thermodynamics.plausibility import LOWEST_PLAUSIBLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from maggma.core import Store

    from gan_htvs.core.candidate import Candidate

SUMMARY_FIELDS = (
    "candidate_id",
    "campaign",
    "formula_pretty",
    "nsites",
    "symmetry.symbol",
    "symmetry.number",
    "failure.folder",
    "oxidation_states.average",
    "origin.proposer",
    "origin.label",
    "origin.requested_composition",
    "energy_above_hull",
    "energy_above_references",
    "energy_incomplete",
    "novelty.is_novel",
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
"""Fields of a table row: everything but the structures."""

INDEXES = (
    *(
        ((path, 1), ("energy_above_hull", 1), ("candidate_id", 1))
        for path in ("formula_pretty", "stage", "chemsys", "campaign")
    ),
    *(
        ((path, 1), ("candidate_id", 1))
        for path in ("energy_above_hull", "band_gap", "pourbaix.minimum")
    ),
    (("duplicate_of", 1),),
)
"""Of the candidates collection, beside its key; the builder makes them. What narrows most stands
first, then what is sorted by; the last finds duplicates of a crystal."""

MOST = 1_000_000_000
"""Candidates that are left out, or asked for, at most."""

STABILITY = "energy_above_hull"

CRYSTAL_FIELDS = ("candidate_id", "duplicate_of", STABILITY)
"""What tells of which crystal a candidate is, and whether it is the lowest."""

TOGETHER = 100
"""Candidates whose crystals are looked for at a time."""

ALWAYS_THERE = ("formula_pretty", "stage", "last_updated", "candidate_id", "nsites")
"""Fields to sort by that every candidate has."""

WINDOWS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
"""Bounds, eV/atom, between which candidates are looked for one after the other in the order of
their energy, so that a server that sorts all that it finds finds few."""


class CandidateStore:
    """Query the candidates of one or all campaigns.

    Parameters
    ----------
    store
        The ``candidates`` collection, as a store of maggma or a collection of pymongo. It is only
        read.

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
        """Find candidates, as documents with pymatgen structures.

        Parameters
        ----------
        sort
            One of :data:`gan_htvs.results.filters.SORTABLE`, ``-`` before it for the largest first.
            Who has no such value comes last, and so do energies that are taken for holes of a
            potential.
        skip, limit
            Leave out so many first; return at most so many, 0 for all.
        fields
            Names of fields of :class:`~gan_htvs.core.candidate.Candidate`; the documents then have
            no others, and come faster without structures.
        filters
            As of :class:`gan_htvs.results.filters.Filters`. ``unique`` chooses among the candidates
            that all others find: of each crystal the first in the order of ``energy_above_hull``.

        Raises
        ------
        UserError
            If a filter, an order or a field is none.
        """
        model = _model(None if fields is None else tuple(fields))
        documents = self._documents(Filters.of(**filters), sort, skip, limit, fields)
        return [model.model_validate(decode(document)) for document in documents]

    def rows(
        self, *, sort: str = STABILITY, skip: int = 0, limit: int = 0, **filters: Any
    ) -> list[dict[str, Any]]:
        """Find candidates, as plain summaries without structures; see :meth:`query`."""
        checked = Filters.of(**filters)
        return list(self._documents(checked, sort, skip, limit, SUMMARY_FIELDS))

    def count(self, **filters: Any) -> int:
        """Count candidates; see :meth:`query`."""
        checked = Filters.of(**filters)
        criteria = checked.criteria()
        if checked.unique:
            found = self._store.query(criteria, list(CRYSTAL_FIELDS))
            return len({crystal(each) for each in found})
        return int(self._store.count(criteria or None))

    def get(self, candidate_id: str) -> Candidate | None:
        """One candidate by its id, or None."""
        document = self._store.query_one({"candidate_id": str(candidate_id)})
        return candidate_from_document(document) if document else None

    def explain(self, *, sort: str = STABILITY, **filters: Any) -> dict[str, Any]:
        """Ask the server how it would find the first of what :meth:`query` returns."""
        criteria = Filters.of(**filters).criteria()
        first, keys = next(_parts(criteria, *_order(sort), has_limit=True))
        collection = self._store._collection  # noqa: SLF001 - maggma asks no server to explain
        plan: dict[str, Any] = collection.find(first).sort(keys).explain()
        return plan

    def _documents(
        self, filters: Filters, sort: str, skip: int, limit: int, fields: Sequence[str] | None
    ) -> Iterator[dict[str, Any]]:
        """Find documents in order, those without a value to sort by last."""
        if not (0 <= skip <= MOST and 0 <= limit <= MOST):
            raise UserError(f"skip and limit: numbers from 0 to {MOST:,}.")
        end = skip + limit if limit else None
        properties = None if fields is None else list(fields)
        if filters.unique:
            properties = properties and sorted({*properties, *CRYSTAL_FIELDS})
        found = self._in_order(
            filters.criteria(), sort, properties, None if filters.unique else end, bool(limit)
        )
        if filters.unique:
            found = self._unique(found, filters.criteria(), sort, bool(limit))
        return islice(found, skip, end)

    def _unique(
        self,
        documents: Iterable[dict[str, Any]],
        criteria: dict[str, Any],
        sort: str,
        has_limit: bool,
    ) -> Iterator[dict[str, Any]]:
        """Of what a query finds, leave out all but the lowest in energy of each crystal.

        Done here, and not by a server: SecantusDB takes a millisecond for each name of an ``$in``,
        and as long to group everything as to send it.
        """
        if sort == STABILITY:
            yield from first_of_each_crystal(documents)
            return
        for some in grouper(documents, TOGETHER) if has_limit else [list(documents)]:
            rivals = some
            if has_limit:
                ids = {"$in": sorted({crystal(each) for each in some})}
                rivals = [
                    rival
                    for path in ("candidate_id", "duplicate_of")
                    for rival in self._store.query({path: ids} | criteria, list(CRYSTAL_FIELDS))
                ]
            lowest = first_of_each_crystal(sorted(rivals, key=energy_order))
            names = {each["candidate_id"] for each in lowest}
            yield from (each for each in some if each["candidate_id"] in names)

    def _in_order(
        self,
        criteria: dict[str, Any],
        sort: str,
        properties: list[str] | None,
        end: int | None,
        has_limit: bool,
    ) -> Iterator[dict[str, Any]]:
        """Find documents in order, up to ``end`` of them."""
        n_found = 0
        for part, keys in _parts(criteria, *_order(sort), has_limit=has_limit):
            limit = 0 if end is None else end - n_found
            for document in self._store.query(part, properties, sort=dict(keys), limit=limit):
                n_found += 1
                yield without_id(document)
            if n_found == end:
                return


def candidate_from_document(document: dict[str, Any]) -> Candidate:
    """Turn a stored document back into a candidate.

    Raises
    ------
    UserError
        If another version wrote it.
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
    """Make the model of documents that have some fields of a candidate alone."""
    from gan_htvs.core.candidate import Candidate  # noqa: PLC0415 - slow

    if fields is None:
        return Candidate
    known = Candidate.model_fields
    for field in fields:
        if field not in known:
            raise UserError(f"fields: {field!r} is none; there are {', '.join(known)}.")
    chosen: dict[str, Any] = {name: (known[name].annotation, known[name]) for name in fields}
    return create_model("PartialCandidate", __base__=Document, **chosen)


def _order(sort: str) -> tuple[str, int]:
    name = sort.removeprefix("-")
    if name not in SORTABLE:
        raise UserError(f"sort: {name!r} is none of {', '.join(SORTABLE)}.")
    return path_of(name), -1 if sort.startswith("-") else 1


def _keys(path: str, direction: int) -> list[tuple[str, int]]:
    keys = [(path, direction)]
    return keys if path == "candidate_id" else [*keys, ("candidate_id", direction)]


def _parts(
    criteria: dict[str, Any], path: str, direction: int, *, has_limit: bool
) -> Iterator[tuple[dict[str, Any], list[tuple[str, int]]]]:
    """Split a query into some that give everything in order, one after the other.

    Energies that are not believed, and who has no value, come last: MongoDB would sort them before
    everything.
    """
    keys, by_id = _keys(path, direction), _keys("candidate_id", 1)
    if path in ALWAYS_THERE:
        yield criteria, keys
        return
    others = {key: value for key, value in criteria.items() if key != path}
    narrow = is_narrow(others)

    def part(more: dict[str, Any]) -> dict[str, Any]:
        # What narrows most stands first, see Filters.criteria.
        return others | more if narrow else more | others

    wanted = criteria.get(path, {})
    low, high = wanted.get("$gte", -math.inf), wanted.get("$lt", math.inf)
    lowest = LOWEST_PLAUSIBLE if path == STABILITY else -math.inf
    in_windows = path == STABILITY and has_limit and not narrow
    bounds = (-math.inf, *(WINDOWS if in_windows else ()), math.inf)
    for window in list(pairwise(bounds))[::direction]:
        first, end = max(low, lowest, window[0]), min(high, window[1])
        if first < end:
            yield part({path: _between(first, end)}), keys
    if low < lowest:
        yield part({path: _between(low, min(high, lowest))}), by_id
    if path not in criteria:
        nothing = {path.partition(".")[0]: None}
        # Most have no gap: any other part of the question finds fewer.
        yield (others | nothing if len(others) > 1 else nothing | others), by_id


def _between(first: float, end: float) -> dict[str, float]:
    return {"$gte": first} if end == math.inf else {"$gte": first, "$lt": end}
