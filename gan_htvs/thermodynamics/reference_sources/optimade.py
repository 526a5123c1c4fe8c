"""Reference phases of OPTIMADE servers, which need no key."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, Field, ValidationError
from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import first_problem
from gan_htvs.core.text import MAX_LINE_LENGTH
from gan_htvs.structures.structure_files import unusable_reason
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.thermodynamics.coverage import subsystems
from gan_htvs.thermodynamics.reference_sources.fetched_file import FetchedPhases, Provenance
from gan_htvs.thermodynamics.references import primitive_phase, safe_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gan_htvs.thermodynamics.references import ReferencePhase

STRUCTURE_FIELDS = (
    *("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species"),
    "nperiodic_dimensions",
)
"""Properties of an entry that define its crystal structure."""

MAX_ENTRIES = 100_000
"""Largest number of entries of one query."""

N_RETRIES = 4
"""Number of repetitions of a request to a busy server, after 0, 2, 4 and 8 s. A request without an
answer is repeated once."""

BUSY = (429, 500, 502, 503, 504)
"""Status codes of servers that may answer later."""

MAX_WAIT_SECONDS = 120.0
"""Longest time that one query waits because a busy server asks for it (``Retry-After``)."""

TIMEOUT_SECONDS = 60.0
"""Time limit of a connection, and of an answer."""

N_PERIODIC = 3
"""Periodic dimensions of a crystal."""

_PARAMETERS = re.compile(r"\?\S+?(?=:?(\s|$))")


class OnProgress(Protocol):
    """Function that shows the progress of queries."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show the number of finished queries, the total, and why a query takes long."""


class _Link(BaseModel):
    href: str


class _Links(BaseModel):
    next: str | _Link | None = None


class _Meta(BaseModel):
    data_available: float | None = None
    data_returned: float | None = None
    request_delay: float | None = None


class _Page(BaseModel):
    """The members of a response that the client reads, besides its data."""

    meta: _Meta = Field(default_factory=_Meta)
    links: _Links = Field(default_factory=_Links)
    errors: list[Any] = []
    included: list[Any] = []


@dataclass(frozen=True)
class Provider:
    """An OPTIMADE server.

    Attributes
    ----------
    name
        Name of the database.
    base_url
        Address, without the version of the API.
    path
        Keys of the energy above hull in the properties of an entry; empty: the server has none.
    is_filterable
        Whether the server can filter by this energy. Nested properties cannot be used in filters.
    """

    name: str
    base_url: str
    path: tuple[str, ...] = ()
    is_filterable: bool = False

    @property
    def has_energies(self) -> bool:
        """Whether entries have energies above hull."""
        return bool(self.path)

    def query(self, elements: Iterable[str], max_energy_above_hull: float) -> str:
        """Return the filter for the entries with exactly these elements."""
        symbols = sorted(elements)
        quoted = ",".join(f'"{symbol}"' for symbol in symbols)
        text = f"elements HAS ALL {quoted} AND nelements={len(symbols)}"
        if self.is_filterable:
            text += f" AND {self.path[0]}<={max_energy_above_hull:g}"
        return text

    def energy_above_hull(self, resource: Mapping[str, Any]) -> float | None:
        """Return the energy above hull of an entry, eV/atom; None: it has no finite number."""
        value: Any = resource["attributes"]
        for key in self.path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, float | int):
            return None
        return value if -math.inf < value < math.inf else None


PROVIDERS = {
    "materials_project": Provider(
        "Materials Project",
        "https://optimade.materialsproject.org",
        ("_mp_stability", "gga_gga+u", "energy_above_hull"),
    ),
    "alexandria": Provider(
        "Alexandria (PBE)",
        "https://alexandria.icams.rub.de/pbe",
        ("_alexandria_hull_distance",),
        is_filterable=True,
    ),
}
"""Servers with energies above hull, by their names in campaign.yaml."""


def provider_of(name: str) -> Provider:
    """Return the provider of a name in :data:`PROVIDERS`, or of a base URL."""
    return PROVIDERS.get(name) or Provider(name, name.rstrip("/"))


def fetch_optimade(
    elements: Iterable[str],
    provider_name: str,
    max_energy_above_hull: float,
    on_progress: OnProgress = lambda *_: None,
    *,
    further: Iterable[tuple[str, ...]] = (),
) -> FetchedPhases:
    """Fetch the structures of a chemical system from an OPTIMADE server.

    Each subsystem is one query. A server of :data:`PROVIDERS` has energies above hull; of other
    servers, all structures are kept.

    Parameters
    ----------
    elements
        The chemical system; subsystems are included.
    provider_name
        Name in :data:`PROVIDERS`, or a base URL.
    max_energy_above_hull
        Limit on the energies of the server, eV/atom.
    on_progress
        Called with the number of finished queries and the total, and with a note before a request
        to a busy server is repeated.
    further
        Further chemical systems, without their subsystems.

    Returns
    -------
    Phases with primitive cells, and their provenance. Entries that are not crystals with fully
    occupied sites are skipped.

    Raises
    ------
    UserError
        If the client is missing, or a query fails or is incomplete: candidates look too stable if
        competing phases are missing.
    """
    provider = provider_of(provider_name)
    system_and_parts = subsystems(elements)
    systems = [*system_and_parts, *further]
    phases: dict[str, ReferencePhase] = {}
    filters: list[str] = []
    skipped: Counter[str] = Counter()
    n_entries = 0
    for done, system in enumerate(systems):
        on_progress(done, len(systems))
        filters.append(provider.query(system, max_energy_above_hull))
        on_wait = partial(on_progress, done, len(systems))
        for resource in _fetch(provider, filters[-1], "-".join(system), on_wait):
            n_entries += 1
            phase = _phase_or_reason(resource, provider, max_energy_above_hull)
            if isinstance(phase, str):
                skipped[phase] += 1
            else:
                phases[phase.name] = phase
    on_progress(len(systems), len(systems))
    provenance = Provenance(
        source="optimade",
        provider=provider_name,
        base_url=provider.base_url,
        elements=system_and_parts[-1],
        max_energy_above_hull=max_energy_above_hull,
        has_energies=provider.has_energies,
        filters=tuple(filters),
        n_entries=n_entries,
        skipped=dict(skipped),
    )
    return FetchedPhases([phases[name] for name in sorted(phases)], provenance)


def structure_of_resource(resource: Mapping[str, Any]) -> Structure:
    """Build the structure of an OPTIMADE entry; vacancies leave sites partly occupied.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the entry has no crystal structure.
    """
    attributes = resource["attributes"]
    species = {
        kind["name"]: {
            symbol: share
            for symbol, share in zip(kind["chemical_symbols"], kind["concentration"], strict=True)
            if symbol != "vacancy"
        }
        for kind in attributes["species"]
    }
    return Structure(
        attributes["lattice_vectors"],
        [species[name] for name in attributes["species_at_sites"]],
        attributes["cartesian_site_positions"],
        coords_are_cartesian=True,
    )


def _phase_or_reason(
    resource: Mapping[str, Any], provider: Provider, max_energy_above_hull: float
) -> ReferencePhase | str:
    """Return the phase of an entry, or the reason why it is skipped."""
    if provider.has_energies:
        energy = provider.energy_above_hull(resource)
        if energy is None:
            return "no energy above hull"
        if energy > max_energy_above_hull:
            return "too far above the hull"
    if resource["attributes"].get("nperiodic_dimensions") not in (None, N_PERIODIC):
        return "not periodic in three dimensions"
    try:
        structure = without_properties(structure_of_resource(resource))
    except (ValueError, KeyError, TypeError):
        return "no crystal structure"
    if (reason := unusable_reason(structure)) is not None:
        return reason
    label = str(resource["id"])
    name = f"{structure.composition.reduced_formula} {safe_label(label)}"
    return primitive_phase(name, structure, f"{provider.name} {label}")


def _fetch(
    provider: Provider, query: str, chemsys: str, on_wait: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return all entries of a query, following the pages of the response."""
    client = _client(provider.base_url, on_wait)
    response = client.get(query, endpoint="structures", response_fields=_fields(provider))
    results = response["structures"][query][provider.base_url]
    flaws = (_flaw(number, entry) for number, entry in enumerate(results["data"], 1))
    problem = next(filter(None, flaws), None)
    entries = {} if problem else {str(entry["id"]): entry for entry in results["data"]}
    if problem or (problem := _problem(results, len(entries))):
        raise UserError(
            f"references.source 'optimade': the query of {chemsys} at {provider.base_url} "
            f"{problem}. No phases were kept, because candidates look too stable if some are "
            "missing; try again later, or choose another references.provider or source."
        )
    return list(entries.values())


def _flaw(number: int, entry: Any) -> str | None:
    """Return what an entry lacks by the standard, or None."""
    if not isinstance(entry, dict) or not entry.get("id"):
        return f"returned no id of entry {number}"
    if not isinstance(entry.get("attributes"), dict):
        return f"returned no attributes of entry {entry['id']}"
    return None


def _problem(results: Mapping[str, Any], n_entries: int) -> str | None:
    """Return the reason why a response is incomplete, or None."""
    if results["errors"]:
        return f"failed: {_message(results['errors'][0])}"
    announced = results["meta"].get("data_returned")
    if isinstance(announced, int) and announced > n_entries:
        return f"returned {n_entries} of {announced} entries"
    if results["links"].get("next") or results["meta"].get("more_data_available"):
        return f"stopped after {n_entries} entries although there are more"
    return None


def _message(error: Any) -> str:
    """Return an error of a response in one line, without the parameters of addresses."""
    if isinstance(error, dict):
        text = " ".join(str(error[key]) for key in ("title", "detail") if error.get(key))
    else:
        text = str(error).removeprefix("RuntimeError: ")
    return shorten(_PARAMETERS.sub("", text), MAX_LINE_LENGTH, placeholder=" [...]").rstrip(".")


def _fields(provider: Provider) -> list[str]:
    return [*STRUCTURE_FIELDS, *provider.path[:1]]


def _client(base_url: str, on_wait: Callable[[str], None]) -> Any:
    """Open a silent client that repeats requests to a busy server, and fails if it stays busy.

    ``on_wait`` is called with a note before each repeated request.
    """
    try:
        from optimade.client import OptimadeClient  # noqa: PLC0415 - slow import
        from requests import Session  # noqa: PLC0415 - requirement of the client
        from requests.adapters import HTTPAdapter  # noqa: PLC0415
        from urllib3 import Retry  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "references.source 'optimade' needs the OPTIMADE client: pip install "
            "'optimade[http-client]'."
        ) from error

    waited = 0.0

    class BoundedRetry(Retry):
        """Waits as long as a server asks for, up to a limit."""

        def sleep(self, response: Any = None) -> None:
            nonlocal waited
            asked = (self.get_retry_after(response) if response else None) or 0.0
            waited += asked
            if waited > MAX_WAIT_SECONDS:
                raise RuntimeError(
                    f"{response.status}: the server is busy and asks to wait {waited:g} s, more "
                    f"than {MAX_WAIT_SECONDS:g} s"
                )
            if seconds := asked or self.get_backoff_time():
                problem = "server busy" if response else "no answer"
                on_wait(f"{problem}, trying again in {seconds:g} s")
            super().sleep(response)

    class PatientSession(Session):
        """Session that waits before it repeats a request, and checks the pages of a query."""

        def __init__(self) -> None:
            super().__init__()
            self.pages: set[str] = set()
            retry = BoundedRetry(
                total=N_RETRIES, connect=1, read=1, backoff_factor=1, status_forcelist=BUSY
            )
            for scheme in ("http://", "https://"):
                self.mount(scheme, HTTPAdapter(max_retries=retry))

        def get(self, url: str, **options: Any) -> Any:
            if url in self.pages:
                raise RuntimeError("the link to the next page leads to one that was read before")
            self.pages.add(url)
            response = super().get(url, **options)
            if response.ok and (flaw := _flaw_of_page(response)) is not None:
                raise RuntimeError(flaw)
            return response

    client = OptimadeClient(
        base_urls=[base_url],
        max_results_per_provider=MAX_ENTRIES,
        http_timeout=TIMEOUT_SECONDS,
        http_client=PatientSession,
        use_async=False,
        silent=True,
    )
    # The option does not silence messages on errors, which are raised here.
    client._progress.console.quiet = True  # noqa: SLF001
    return client


def _flaw_of_page(response: Any) -> str | None:
    """Return why the client cannot read a response, or None."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or not (
        document.get("errors") or isinstance(document.get("data"), list)
    ):
        return "the response has no list of data"
    try:
        _Page.model_validate(document, strict=True)
    except ValidationError as error:
        return f"the response is malformed: {first_problem(error)}"
    return None
