"""Archive of a campaign: export to one file, and lossless import into another database.

The file is a zip with one member per collection and ``manifest.json`` with versions and checksums.
Members contain one document per line in MongoDB's canonical extended JSON, which preserves all
types. Queued and running jobs are not included: they belong to the launchpad.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

from bson import json_util
from jobflow.utils import find_key
from maggma.utils import grouper
from pydantic import BaseModel
from pymongo.errors import BulkWriteError

from gan_htvs.campaign.stored_campaign import read_stored_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import open_atomically
from gan_htvs.core.versions import versions
from launchers.launchpad.builders import ensure_indexes
from launchers.launchpad.registry import registered
from launchers.launchpad.stores import BLOBS, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pymongo.collection import Collection
    from pymongo.database import Database

    from launchers.launchpad.database import Databases

    OnProgress = Callable[[str, int, int], None]

FORMAT = 1
MANIFEST = "manifest.json"
FILES, CHUNKS = (f"{BLOBS['collection_name']}.{part}" for part in ("files", "chunks"))
KEYS = {
    "campaigns": "name",
    OUTPUTS["collection_name"]: OUTPUTS["key"],
    "candidates": "candidate_id",
    FILES: "_id",
    CHUNKS: "_id",
}
"""Collections of an archive and their key fields."""

DUPLICATE = 11000
"""MongoDB's error code of a duplicate key."""

CHUNK = 200
"""Number of documents read or inserted at a time."""

_DOCUMENTS = json_util.CANONICAL_JSON_OPTIONS


class Member(BaseModel, extra="forbid"):
    """A collection in an archive."""

    key: str
    """Key field of the documents."""
    n_documents: int
    sha256: str


class Manifest(BaseModel, extra="forbid"):
    """Contents of an archive."""

    format: int
    campaign: str
    written_at: datetime
    versions: dict[str, Any]
    members: dict[str, Member]


def _ignore(name: str, done: int, total: int) -> None:
    """Ignore progress."""


def write_archive(
    databases: Databases, name: str | None, path: Path, on_progress: OnProgress = _ignore
) -> Manifest:
    """Write a campaign to an archive: settings, outputs with checkpoints, candidates.

    Parameters
    ----------
    databases
        Databases that hold the campaign.
    name
        Name of the campaign; None: the only one.
    path
        Target file, written atomically.
    on_progress
        Called with collection, number of documents written, and total.

    Raises
    ------
    UserError
        If the campaign does not exist, or the file cannot be written.
    """
    campaign = registered(databases, name).name
    db = databases.launchpad().db
    members: dict[str, Member] = {}
    blobs: set[str] = set()
    with (
        open_atomically(path) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for collection, criteria in _parts(db, campaign, blobs):
            total = db[collection].count_documents(criteria)
            digest = hashlib.sha256()
            done = 0
            with archive.open(f"{collection}.jsonl", "w", force_zip64=True) as file:
                for document in db[collection].find(criteria).sort("_id", 1):
                    for path_in_document in find_key(document, "blob_uuid"):
                        blobs.add(reduce(getitem, path_in_document, document)["blob_uuid"])
                    line = json_util.dumps(document, json_options=_DOCUMENTS).encode() + b"\n"
                    digest.update(line)
                    file.write(line)
                    done += 1
                    if done % CHUNK == 0 or done == total:
                        on_progress(collection, done, total)
            members[collection] = Member(
                key=KEYS[collection], n_documents=done, sha256=digest.hexdigest()
            )
        manifest = Manifest(
            format=FORMAT,
            campaign=campaign,
            written_at=datetime.now(UTC),
            versions=versions(),
            members=members,
        )
        archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))
    return manifest


def check_archive(path: Path) -> Manifest:
    """Check that an archive is complete and undamaged.

    Raises
    ------
    UserError
        If the file is not an archive, has another format version, or is damaged.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        manifest = _manifest(path, archive)
        for name, member in manifest.members.items():
            digest = hashlib.sha256()
            keys = set()
            n_documents = 0
            for line in _lines(archive, name):
                digest.update(line)
                keys.add(_key(_document(line), member))
                n_documents += 1
            if (digest.hexdigest(), n_documents) != (member.sha256, member.n_documents):
                raise UserError(f"{path}: {name} is damaged; write or fetch the archive again.")
            if len(keys) < n_documents:
                raise UserError(f"{path}: {name} contains a document twice; write it again.")
            if name == "campaigns" and keys != {(manifest.campaign, None)}:
                raise UserError(f"{path}: campaigns does not match the manifest; write it again.")
    return manifest


def read_archive(
    databases: Databases, path: Path, on_progress: OnProgress = _ignore
) -> tuple[Manifest, int]:
    """Import a campaign into a database. Existing documents are kept, so the import is repeatable.

    Returns
    -------
    The manifest, and the number of new documents.

    Raises
    ------
    UserError
        If the archive is invalid, or the database has another campaign of the same name.
    """
    manifest = check_archive(path)
    db = databases.launchpad().db
    n_new = 0
    with zipfile.ZipFile(path) as archive:
        stored = db["campaigns"].find_one({"name": manifest.campaign})
        (archived,) = map(_document, _lines(archive, "campaigns"))
        if stored is not None and read_stored_campaign(stored) != read_stored_campaign(archived):
            raise UserError(
                f"The database has another campaign {manifest.campaign!r}; read the archive into "
                "an empty database (another `name` in my_launchpad.yaml)."
            )
        ensure_indexes(databases)
        for name, member in manifest.members.items():
            done = 0
            for lines in grouper(_lines(archive, name), CHUNK):
                documents = {_key(document, member): document for document in map(_document, lines)}
                query = {
                    member.key: {"$in": [document[member.key] for document in documents.values()]}
                }
                fields = {member.key: 1, "index": 1}
                stored_keys = {_key(document, member) for document in db[name].find(query, fields)}
                new = [document for key, document in documents.items() if key not in stored_keys]
                n_new += _insert(db[name], new)
                done += len(documents)
                on_progress(name, done, member.n_documents)
    return manifest, n_new


def _insert(collection: Collection[dict[str, Any]], documents: list[dict[str, Any]]) -> int:
    """Insert documents, skip those inserted by another process, and return the number."""
    if not documents:
        return 0
    try:
        return len(collection.insert_many(documents, ordered=False).inserted_ids)
    except BulkWriteError as error:
        problems = error.details["writeErrors"]
        if any(problem["code"] != DUPLICATE for problem in problems):
            raise
        return len(documents) - len(problems)


def _key(document: dict[str, Any], member: Member) -> tuple[Any, Any]:
    """Return the key of a document; a job that was replaced has two outputs with one uuid."""
    return document[member.key], document.get("index")


def _parts(
    db: Database[dict[str, Any]], campaign: str, blobs: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield collections and queries of a campaign's documents, including shared ones.

    ``blobs`` are the ids of large objects; the caller adds to them while it reads the outputs.
    """
    submission = (db["campaigns"].find_one({"name": campaign}) or {}).get("submission") or {}
    owners = [campaign, *submission.get("owners", [])]
    yield "campaigns", {"name": campaign}
    yield OUTPUTS["collection_name"], {"metadata.campaign": {"$in": owners}}
    yield "candidates", {"campaign": campaign}
    query = {"metadata.blob_uuid": {"$in": sorted(blobs)}}
    files = [file["_id"] for file in db[FILES].find(query, {"_id": 1})]
    yield FILES, {"_id": {"$in": files}}
    yield CHUNKS, {"files_id": {"$in": files}}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise a UserError if the file cannot be read or parsed."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zip, decompression, JSON and BSON raise different errors
        raise UserError(
            f"{path} is damaged or not a campaign archive; write or fetch it again."
        ) from error


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    document = json.loads(archive.read(MANIFEST))
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {document.get('format')}, but this version reads format {FORMAT}; "
            "update gan-htvs."
        )
    manifest = Manifest.model_validate(document)
    if {name: member.key for name, member in manifest.members.items()} != KEYS:
        raise UserError(
            f"{path} is not a campaign archive: its collections differ; write it again."
        )
    return manifest


def _lines(archive: zipfile.ZipFile, name: str) -> Iterable[bytes]:
    with archive.open(f"{name}.jsonl") as file:
        yield from file


def _document(line: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json_util.loads(line, json_options=_DOCUMENTS)
    return document
