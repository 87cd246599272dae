"""The members of an archive, here or behind a URL. A remote one is gone through once; what was found is kept."""

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
from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.core.lfs_pointer import MAX_POINTER_BYTES, is_pointer, pointer_message
from milvus_fghash.core.state_folder import state_folder
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.sources import tar_index, zip_index
from milvus_fghash.datasets.sources.archive_member import Member
from milvus_fghash.datasets.sources.location import PhotoLocation, Url
from milvus_fghash.errors import DataError

FORMAT: Final = 3
"""Of what is kept. What was kept in another one is not looked at: the archive is gone through again."""
BLOCK: Final = 8 << 20
"""Bytes that are fetched at once while a remote archive is gone through."""


def members_of(archive: Path | Url) -> tuple[Iterable[Member], str]:
    """Members, and the version of the archive; "" when none can be known.

    Raises:
        DataError: when it cannot be read, or is no archive.
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

    (version,) = request_revisions([PhotoLocation(archive.full, str(archive))])()
    memory = None
    with suppress(DataError):  # there is no home folder to remember it in
        memory = _file_of(archive, version)
    if version and memory and (known := _remembered(memory)) is not None:
        return known, version
    with opened(archive, BLOCK) as remote:
        members = list(_index(remote, str(archive)))
    if version and memory:
        with suppress(DataError):  # a full disk costs only time
            write_atomic(memory, json.dumps([_facts(member) for member in members]).encode())
    return members, version


def _index(file: BinaryIO, shown: str) -> Iterable[Member]:
    start = file.read(MAX_POINTER_BYTES)
    if is_pointer(start):
        raise DataError(pointer_message(shown))
    return zip_index.index(file, shown) if start.startswith(b"PK") else tar_index.index(file, shown)


def _file_of(archive: Url, version: str) -> Path:
    """Where its members are kept, by all that decides what is found; the URL's secrets are not in the name."""
    rules = f"{FORMAT} {' '.join(sorted(SUFFIXES))}"
    digest = hashlib.blake2b(f"{archive} {version} {rules}".encode(), digest_size=16).hexdigest()
    return state_folder() / "archives" / f"{digest}.json"


def _facts(member: Member) -> tuple[dict[str, object], tuple[int, ...] | None]:
    facts = asdict(member)
    return facts, facts.pop("zipped")


def _remembered(file: Path) -> list[Member] | None:
    try:
        rows = parse_json(read_bounded(file, MAX_LIST_BYTES))
        return [Member(**row, zipped=zipped and tuple(zipped)) for row, zipped in rows]
    except (OSError, ValueError, TypeError):
        return None
