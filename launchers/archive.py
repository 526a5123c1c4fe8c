"""A campaign as one file, from which a database gets it back document for document.

The file is a zip: for each collection a member of one document a line, in MongoDB's canonical
extended JSON, which keeps every type; and ``manifest.json``, with versions and checksums. Jobs that
are queued or running are not in it: they belong to the launchpad.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from bson import json_util
from maggma.utils import grouper
from pydantic import BaseModel, ConfigDict, ValidationError

from gan_htvs.campaign import Campaign
from gan_htvs.errors import UserError
from gan_htvs.files import replaced
from launchers.registry import registered
from launchers.stores import BLOBS, OUTPUTS
from launchers.workers import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from launchers.database import Databases

    OnProgress = Callable[[str, int, int], None]

FORMAT = 1
MANIFEST = "manifest.json"
KEYS = {
    "campaigns": "name",
    OUTPUTS["collection_name"]: OUTPUTS["key"],
    "stability": "candidate_id",
    "candidates": "candidate_id",
    **dict.fromkeys((f"{BLOBS['collection_name']}.{part}" for part in ("files", "chunks")), "_id"),
}
"""Collections of an archive, and by what their documents are known."""

CHUNK = 200
"""Documents that are read, or put in, at once."""

_LARGEST_MANIFEST = 1_000_000
_DOCUMENTS = json_util.CANONICAL_JSON_OPTIONS


class Member(BaseModel):
    """A collection in an archive."""

    model_config = ConfigDict(extra="forbid")

    key: str
    """Field by which a document is known."""
    n_documents: int
    sha256: str


class Manifest(BaseModel):
    """What an archive holds."""

    model_config = ConfigDict(extra="forbid")

    format: int
    campaign: str
    written_at: datetime
    versions: dict[str, Any]
    members: dict[str, Member]


class _Part(NamedTuple):
    collection: str
    key: str
    criteria: dict[str, Any]


def write_archive(
    databases: Databases, name: str | None, path: Path, on_progress: OnProgress | None = None
) -> Manifest:
    """Write a campaign: settings, outputs with checkpoints, stability, candidates.

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
    campaign = registered(databases, name)
    db = databases.launchpad().db
    members: dict[str, Member] = {}
    with (
        replaced(path) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        blobs: set[str] = set()
        for part in _parts(db, campaign.name, blobs):
            total = db[part.collection].count_documents(part.criteria)
            digest = hashlib.sha256()
            done = 0
            with archive.open(f"{part.collection}.jsonl", "w", force_zip64=True) as file:
                for document in db[part.collection].find(part.criteria).sort("_id", 1):
                    blobs.update(_blobs(document.get("output")))
                    line = json_util.dumps(document, json_options=_DOCUMENTS).encode() + b"\n"
                    digest.update(line)
                    file.write(line)
                    done += 1
                    if on_progress and (done % CHUNK == 0 or done == total):
                        on_progress(part.collection, done, total)
            members[part.collection] = Member(
                key=part.key, n_documents=done, sha256=digest.hexdigest()
            )
        manifest = Manifest(
            format=FORMAT,
            campaign=campaign.name,
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
    with _opened(path) as (archive, manifest):
        for name, member in manifest.members.items():
            digest = hashlib.sha256()
            for line in _lines(archive, name):
                digest.update(line)
            if digest.hexdigest() != member.sha256:
                raise UserError(f"{path}: {name} is damaged; write or fetch the archive again.")
    return manifest


def read_archive(
    databases: Databases, path: Path, on_progress: OnProgress | None = None
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
    with _opened(path) as (archive, _):
        _refuse_another(db, archive, manifest)
        for name, member in manifest.members.items():
            done = 0
            for lines in grouper(_lines(archive, name), CHUNK):
                documents = [json_util.loads(line, json_options=_DOCUMENTS) for line in lines]
                keys = [document[member.key] for document in documents]
                there = {
                    document[member.key]
                    for document in db[name].find({member.key: {"$in": keys}}, {member.key: 1})
                }
                new = [document for document in documents if document[member.key] not in there]
                if new:
                    db[name].insert_many(new)
                n_new += len(new)
                done += len(documents)
                if on_progress:
                    on_progress(name, done, member.n_documents)
    return manifest, n_new


def _parts(db: Database[dict[str, Any]], name: str, blobs: set[str]) -> Iterator[_Part]:
    """List what belongs to a campaign; what it shares with others is among it.

    ``blobs`` are the large objects of the outputs, once these have been gone through.
    """
    submission = (db["campaigns"].find_one({"name": name}) or {}).get("submission") or {}
    owners = {"$in": [name, *submission.get("owners", [])]}
    criteria: dict[str, dict[str, Any]] = {
        "campaigns": {"name": name},
        OUTPUTS["collection_name"]: {"metadata.campaign": owners},
        "stability": {"campaign": name},
        "candidates": {"campaign": name},
    }
    for collection, mine in criteria.items():
        yield _Part(collection, KEYS[collection], mine)
    large = BLOBS["collection_name"]
    mine = {"metadata.blob_uuid": {"$in": sorted(blobs)}}
    files = [file["_id"] for file in db[f"{large}.files"].find(mine, {"_id": 1})]
    yield _Part(f"{large}.files", "_id", {"_id": {"$in": files}})
    yield _Part(f"{large}.chunks", "_id", {"files_id": {"$in": files}})


def _blobs(value: Any) -> Iterator[str]:
    """Find the large objects that jobflow keeps beside an output."""
    if isinstance(value, dict):
        if "blob_uuid" in value:
            yield value["blob_uuid"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _blobs(each)


def _refuse_another(
    db: Database[dict[str, Any]], archive: zipfile.ZipFile, manifest: Manifest
) -> None:
    there = db["campaigns"].find_one({"name": manifest.campaign})
    (line,) = _lines(archive, "campaigns")
    mine = json_util.loads(line, json_options=_DOCUMENTS)
    if there is not None and _settings(there) != _settings(mine):
        raise UserError(
            f"There is another campaign {manifest.campaign!r} in the database: read the archive "
            "into an empty one, see `name` in my_launchpad.yaml."
        )


def _settings(campaign: dict[str, Any]) -> dict[str, Any]:
    """Read the settings of a campaign, with the defaults of what was no setting yet."""
    return Campaign.model_validate(campaign["settings"]).model_dump(mode="json")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
                raise UserError(f"{path}: is no archive of a campaign: its manifest is too large.")
            document = json.loads(archive.read(MANIFEST))
            if isinstance(document, dict) and document.get("format") != FORMAT:
                raise UserError(
                    f"{path}: is of format {document.get('format')}, and this version reads "
                    f"{FORMAT}; update gan-htvs."
                )
            manifest = Manifest.model_validate(document)
            if {name: member.key for name, member in manifest.members.items()} != KEYS:
                raise UserError(f"{path}: is no archive of a campaign: it has other collections.")
            yield archive, manifest
    except (KeyError, ValidationError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: is no archive of a campaign.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: is damaged, or no archive of a campaign.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def _lines(archive: zipfile.ZipFile, name: str) -> Iterable[bytes]:
    with archive.open(f"{name}.jsonl") as file:
        yield from file
