"""A campaign as one file, from which a database gets it back document for document.

The file is a zip: for each collection a member of one document a line, in MongoDB's canonical
extended JSON, which keeps every type; and ``manifest.json``, with versions and checksums. Jobs that
are queued or running are not in it: they belong to the launchpad.
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
"""Collections of an archive, and by what their documents are known."""

DUPLICATE = 11000
"""Code of MongoDB for a key that is there already."""

CHUNK = 200
"""Documents that are read, or put in, at once."""

_DOCUMENTS = json_util.CANONICAL_JSON_OPTIONS


class Member(BaseModel, extra="forbid"):
    """A collection in an archive."""

    key: str
    """Field by which a document is known."""
    n_documents: int
    sha256: str


class Manifest(BaseModel, extra="forbid"):
    """What an archive holds."""

    format: int
    campaign: str
    written_at: datetime
    versions: dict[str, Any]
    members: dict[str, Member]


def _ignore(name: str, done: int, total: int) -> None:
    """Report no progress."""


def write_archive(
    databases: Databases, name: str | None, path: Path, on_progress: OnProgress = _ignore
) -> Manifest:
    """Write a campaign: settings, outputs with checkpoints, candidates.

    Parameters
    ----------
    databases
        Where it is.
    name
        Of the campaign; None: the only one.
    path
        The file, which is complete or not there.
    on_progress
        Called with a collection, the documents that are written and their number.

    Raises
    ------
    UserError
        If there is no such campaign, or the file cannot be written.
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
                    for way in find_key(document, "blob_uuid"):
                        blobs.add(reduce(getitem, way, document)["blob_uuid"])
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
    """Make sure that an archive is whole, document for document.

    Raises
    ------
    UserError
        If it is no archive, one of a later format, or damaged.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        manifest = _manifest(path, archive)
        for name, member in manifest.members.items():
            digest = hashlib.sha256()
            keys = set()
            n_documents = 0
            for line in _lines(archive, name):
                digest.update(line)
                keys.add(_document(line)[member.key])
                n_documents += 1
            if (digest.hexdigest(), n_documents) != (member.sha256, member.n_documents):
                raise UserError(f"{path}: {name} is damaged; write or fetch the archive again.")
            if len(keys) < n_documents:
                raise UserError(f"{path}: {name} holds a document twice.")
            if name == "campaigns" and keys != {manifest.campaign}:
                raise UserError(f"{path}: is no archive of a campaign: it holds another one.")
    return manifest


def read_archive(
    databases: Databases, path: Path, on_progress: OnProgress = _ignore
) -> tuple[Manifest, int]:
    """Put a campaign into a database; what is there already stays, so that it can be repeated.

    Returns
    -------
    What the archive holds, and how many documents were new.

    Raises
    ------
    UserError
        If the archive is not whole, or there is another campaign of its name.
    """
    manifest = check_archive(path)
    db = databases.launchpad().db
    n_new = 0
    with zipfile.ZipFile(path) as archive:
        there = db["campaigns"].find_one({"name": manifest.campaign})
        (mine,) = map(_document, _lines(archive, "campaigns"))
        if there is not None and read_stored_campaign(there) != read_stored_campaign(mine):
            raise UserError(
                f"There is another campaign {manifest.campaign!r} in the database: read the "
                "archive into an empty one, see `name` in my_launchpad.yaml."
            )
        ensure_indexes(databases)
        for name, member in manifest.members.items():
            done = 0
            for lines in grouper(_lines(archive, name), CHUNK):
                documents = {each[member.key]: each for each in map(_document, lines)}
                known = {member.key: {"$in": list(documents)}}
                old = {each[member.key] for each in db[name].find(known, {member.key: 1})}
                new = [each for key, each in documents.items() if key not in old]
                n_new += _put(db[name], new)
                done += len(documents)
                on_progress(name, done, member.n_documents)
    return manifest, n_new


def _put(collection: Collection[dict[str, Any]], documents: list[dict[str, Any]]) -> int:
    """Put documents in but those that somebody else has put in meanwhile; return how many."""
    if not documents:
        return 0
    try:
        return len(collection.insert_many(documents, ordered=False).inserted_ids)
    except BulkWriteError as error:
        problems = error.details["writeErrors"]
        if any(problem["code"] != DUPLICATE for problem in problems):
            raise
        return len(documents) - len(problems)


def _parts(
    db: Database[dict[str, Any]], campaign: str, blobs: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """List the collections with what belongs to a campaign, including what it shares with others.

    ``blobs`` are the large objects of the outputs, complete once these have been read.
    """
    submission = (db["campaigns"].find_one({"name": campaign}) or {}).get("submission") or {}
    owners = [campaign, *submission.get("owners", [])]
    yield "campaigns", {"name": campaign}
    yield OUTPUTS["collection_name"], {"metadata.campaign": {"$in": owners}}
    yield "candidates", {"campaign": campaign}
    mine = {"metadata.blob_uuid": {"$in": sorted(blobs)}}
    files = [file["_id"] for file in db[FILES].find(mine, {"_id": 1})]
    yield FILES, {"_id": {"$in": files}}
    yield CHUNKS, {"files_id": {"$in": files}}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell in one sentence what is wrong with a file."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zip, three kinds of packing, JSON and BSON have each their own
        raise UserError(f"{path}: is damaged, or no archive of a campaign.") from error


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    document = json.loads(archive.read(MANIFEST))
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise UserError(
            f"{path}: is of format {document.get('format')}, and this version reads {FORMAT}; "
            "update gan-htvs."
        )
    manifest = Manifest.model_validate(document)
    if {name: member.key for name, member in manifest.members.items()} != KEYS:
        raise UserError(f"{path}: is no archive of a campaign: it has other collections.")
    return manifest


def _lines(archive: zipfile.ZipFile, name: str) -> Iterable[bytes]:
    with archive.open(f"{name}.jsonl") as file:
        yield from file


def _document(line: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json_util.loads(line, json_options=_DOCUMENTS)
    return document
