"""The members of an archive, local or behind a URL. The index of a remote archive is cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, open_regular, read_bounded
from milvus_fghash.core.environment import state_folder
from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.core.lfs_pointer import MAX_POINTER_BYTES, is_pointer, pointer_message
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.sources import tar_index, zip_index
from milvus_fghash.datasets.sources.archive_member import Member
from milvus_fghash.datasets.sources.location import PhotoLocation, Url
from milvus_fghash.errors import DataError

CACHE_FORMAT: Final = 3
"""Version of the cache. With another one, the archive is indexed again."""
BLOCK_BYTES: Final = 8 << 20
"""Bytes per request while a remote archive is indexed."""


def members_of(archive: Path | Url) -> tuple[Iterable[Member], str]:
    """The members and the revision of the archive; "" when it is unknown.

    Raises:
        DataError: when it cannot be read, or is not an archive.
        MissingExtra: for a URL, without the packages it needs.
    """
    if isinstance(archive, Path):
        try:
            with open_regular(archive) as file:
                status = os.fstat(file.fileno())
                return list(_index(file, str(archive))), f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            raise DataError(f"cannot read {archive}: {error.strerror}") from None
    from milvus_fghash.datasets.sources.fetch import opened, request_revisions

    (revision,) = request_revisions([PhotoLocation(archive.full, str(archive))])()
    cache = None
    with suppress(DataError):  # no home folder for the cache
        cache = _cache_file(archive, revision)
    if revision and cache and (known := _read_cache(cache)) is not None:
        return known, revision
    with opened(archive, BLOCK_BYTES) as remote:
        members = list(_index(remote, str(archive)))
    if revision and cache:
        with suppress(DataError):  # a full disk: the archive is indexed again next time
            write_atomic(cache, json.dumps([_to_json(member) for member in members]).encode())
    return members, revision


def _index(file: BinaryIO, shown: str) -> Iterable[Member]:
    start = file.read(MAX_POINTER_BYTES)
    if is_pointer(start):
        raise DataError(pointer_message(shown))
    return zip_index.index(file, shown) if start.startswith(b"PK") else tar_index.index(file, shown)


def _cache_file(archive: Url, revision: str) -> Path:
    """The cache file, named by everything that the index depends on; the secrets of the URL are not part of it."""
    rules = f"{CACHE_FORMAT} {' '.join(sorted(SUFFIXES))}"
    digest = hashlib.blake2b(f"{archive} {revision} {rules}".encode(), digest_size=16).hexdigest()
    return state_folder() / "archives" / f"{digest}.json"


def _to_json(member: Member) -> tuple[dict[str, object], tuple[int, ...] | None]:
    facts = asdict(member)
    return facts, facts.pop("zipped")


def _read_cache(file: Path) -> list[Member] | None:
    try:
        rows = parse_json(read_bounded(file, MAX_LIST_BYTES))
        return [Member(**row, zipped=zipped and tuple(zipped)) for row, zipped in rows]
    except (OSError, ValueError, TypeError):
        return None
