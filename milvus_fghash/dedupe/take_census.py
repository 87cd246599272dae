"""The census of a collection, with the perceptual hashes of photos where the collection stores none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.core.perceptual_hash import NO_HASH, phash_from_hex
from milvus_fghash.dedupe.grouping import Census
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, decode
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import read_codes
from milvus_fghash.search.search import photo_file

ROWS_PER_CALL: Final = 10_000
"""Rows read in one call; Milvus returns at most 16,384."""


def take_census(collection: HashCollection) -> Census:
    """Id, code, content and, where the collection stores it, perceptual hash of every row."""
    phash = ["phash"] if collection.has_phash else []
    pages = collection.pages(["id", "code", "content_sha", *phash], ROWS_PER_CALL)
    return Census.of(
        (
            (
                [one["id"] for one in page],
                read_codes(page, collection.bits),
                [one["content_sha"] for one in page],
                [one["phash"] if phash else NO_HASH for one in page],
            )
            for page in pages
        ),
        code_bytes(collection.bits),
    )


def with_phashes_of_photos(
    census: Census, collection: HashCollection, known: Mapping[str, int], folders: Sequence[Path], progress: Progress
) -> tuple[Census, dict[str, int]]:
    """The census with the perceptual hashes of photos that are in a folder, and these hashes by id.

    A photo counts if its file is still the one that was ingested. The first folder that has it counts.

    Args:
        known: id -> hash; these photos are not read.
        progress: called with the number of photos that were looked for, and of all rows.

    Raises:
        ConfigError: when the decoder processes do not start.
        StoreError: when Milvus rejects a call.
    """
    found = dict(known)
    ids = [key for row, key in enumerate(census.ids) if key not in found and census.contents[row].any()]
    for start in range(0, len(ids) if folders else 0, ROWS_PER_CALL):
        part = ids[start : start + ROWS_PER_CALL]
        left: list[Mapping[str, Any]] = []
        for at in range(0, len(part), MAX_IDS_PER_CALL):
            left += collection.query_by_id(part[at : at + MAX_IDS_PER_CALL], ["id", "path", "content_sha"])
        for folder in folders:
            of_folder = dict(_read(left, folder))
            found |= of_folder
            left = [row for row in left if row["id"] not in of_folder]
        progress(start + len(part), len(ids))
    phashes = census.phashes.copy()
    phashes[[census.positions[key] for key in found]] = list(found.values())
    return replace(census, phashes=phashes), found


def unchanged_phashes(earlier: Duplicates, census: Census) -> dict[str, int]:
    """Id -> perceptual hash that an earlier search computed from the photo, for rows that have not changed since."""
    return {
        key: phash_from_hex(text)
        for key, text in earlier.phashes.items()
        if (row := census.positions.get(key)) is not None and earlier.rows.get(key) == census.fingerprint(row)
    }


def _read(rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[tuple[str, int]]:
    """Id and perceptual hash of the rows whose unchanged photo is in the folder."""
    file_of = [(row, file) for row in rows if (file := photo_file(folder, row["path"])) and file.is_file()]
    options = DecodeOptions().for_photos(len(file_of))
    with closing(decode((file for _row, file in file_of), Preprocessing(), options)) as photos:
        for (row, _file), photo in zip(file_of, photos, strict=True):
            if isinstance(photo, Photo) and photo.content_sha == row["content_sha"]:
                yield row["id"], photo.phash
