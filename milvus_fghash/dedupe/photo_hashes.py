"""Perceptual hashes of rows that keep none, from their photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, decode
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.search.html_report import inside


def read_phashes(
    rows: Rows, wanted: Sequence[int], folders: Sequence[Path], progress: Progress | None = None
) -> Iterator[tuple[int, int]]:
    """Row and perceptual hash of those whose photo lies in one of the folders and is what the row was made of.

    Args:
        wanted: positions among ``rows``.
        folders: that the paths of the rows may be relative to; the first that has the photo counts.
        progress: called with the number of photos looked into, and of all, for each folder.

    Raises:
        ConfigError: when processes that decode do not start.
    """
    left = [row for row in wanted if rows.content_shas[row]]
    for folder in folders:
        place_of = {row: place for row in left if (place := inside(folder, rows.paths[row]))}
        found = set()
        photos = decode(place_of.values(), Preprocessing(), DecodeOptions().for_photos(len(place_of)))
        with closing(photos):
            for done, (row, photo) in enumerate(zip(place_of, photos, strict=True), 1):
                if isinstance(photo, Photo) and photo.content_sha == rows.content_shas[row]:
                    found.add(row)
                    yield row, photo.phash
                if progress:
                    progress(done, len(place_of))
        left = [row for row in left if row not in found]
