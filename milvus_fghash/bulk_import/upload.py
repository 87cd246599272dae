"""Where Milvus reads shards from: a bucket they are copied to, or the folder they lie in."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.datasets.sources.file_systems import EXTRAS
from milvus_fghash.datasets.sources.location import url_problem
from milvus_fghash.errors import ConfigError, MissingExtra, StoreError, one_line


class Bucket:
    """A place of Milvus' own storage, by URL: s3://BUCKET/FOLDER, gs://..., file:///FOLDER of a standalone Milvus."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that cannot be, MissingExtra when a package for it is not installed."""
        scheme, found, _ = url.partition("://")
        if not found:
            raise ConfigError(f"the bucket must be a URL such as s3://milvus-bucket/shards, got {url!r}")
        KNOWN_SECRETS.add_url(url)
        if problem := url_problem(url):
            raise ConfigError(f"cannot use the bucket {problem}")
        try:
            self._files, self._root = import_module("fsspec.core").url_to_fs(url)
        except ImportError as error:
            extra = EXTRAS.get(scheme, "http")
            raise MissingExtra(
                f"the bucket {url} needs packages that are not installed ({error}). Install them with: "
                f"pip install 'milvus-fghash[{extra}]'"
            ) from None
        except Exception as error:  # of a malformed URL, or of a storage that connects at once
            raise ConfigError(f"cannot use the bucket {url}: {one_line(error)}") from None
        self.url = url
        self._local = scheme in ("file", "local")

    def put(self, path: Path) -> str:
        """Copy a file there; its name for Milvus, which is relative to the bucket.

        Raises:
            StoreError: when the bucket rejects.
        """
        there = f"{self._root.rstrip('/')}/{path.name}"
        try:
            if self._local:  # elsewhere there are no folders, and a bucket of a misspelt name would be made
                self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), there)
            size = self._files.info(there)["size"]
        except Exception as error:  # each storage has errors of its own
            raise StoreError(f"cannot copy {path} to {self.url}: {one_line(error)[:300]}") from error
        if size != path.stat().st_size:
            raise StoreError(f"{there} has {size:,} bytes after copying {path} of {path.stat().st_size:,}")
        return there if self._local else there.lstrip("/").partition("/")[2]


def in_place(path: Path) -> str:
    """The name of a file that Milvus reads where it lies."""
    return str(path.resolve())
