"""Where Milvus reads shards from: a bucket they are copied to, or the folder they lie in."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from milvus_fghash.errors import ConfigError, StoreError, optional_part


class Bucket:
    """A place of Milvus' own storage, by URL: s3://BUCKET/FOLDER, gs://..., file:///FOLDER of a standalone Milvus."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that cannot be, MissingExtra when a package for it is missing."""
        with optional_part("remote"):
            fsspec: Any = import_module("fsspec")
        if "://" not in url:
            raise ConfigError(f"the bucket must be a URL such as s3://milvus-bucket/shards, got {url!r}")
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"cannot use the bucket {url}: {error}") from None
        self.url = url
        self._local = url.startswith("file:")

    def put(self, path: Path) -> str:
        """Copy a file there; its name for Milvus, which is relative to the bucket.

        Raises:
            StoreError: when the bucket refuses.
        """
        there = f"{self._root.rstrip('/')}/{path.name}"
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), there)
            size = self._files.info(there)["size"]
        except Exception as error:  # each storage has errors of its own
            raise StoreError(f"cannot copy {path} to {self.url}: {' '.join(str(error).split())[:300]}") from error
        if size != path.stat().st_size:
            raise StoreError(f"{there} has {size:,} bytes after copying {path} of {path.stat().st_size:,}")
        return there if self._local else there.partition("/")[2]


def in_place(path: Path) -> str:
    """The name of a file that Milvus reads where it lies."""
    return str(path.resolve())
