"""How Milvus reads shards: from a bucket to which they are copied, or from their folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.datasets.sources.file_systems import EXTRAS
from milvus_fghash.datasets.sources.location import url_problem
from milvus_fghash.errors import ConfigError, MissingExtra, StoreError, one_line


class Bucket:
    """A folder in the storage of Milvus, by URL: s3://BUCKET/FOLDER, gs://..., file:///FOLDER for a standalone one."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for an invalid URL, MissingExtra when a package for it is not installed."""
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
        except Exception as error:  # for a malformed URL, or by a storage that connects immediately
            raise ConfigError(f"cannot use the bucket {url}: {one_line(error)}") from None
        self.url = url
        self._local = scheme in ("file", "local")

    def put(self, path: Path) -> str:
        """Copy a file into the bucket, and return its name for Milvus, which is relative to the bucket.

        Raises:
            StoreError: when the file cannot be copied.
        """
        target = f"{self._root.rstrip('/')}/{path.name}"
        try:
            if self._local:  # other storages have no folders, and a bucket with a misspelt name would be created
                self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), target)
            size = self._files.info(target)["size"]
        except Exception as error:  # each storage has its own errors
            raise StoreError(f"cannot copy {path} to {self.url}: {one_line(error)[:300]}") from error
        if size != path.stat().st_size:
            raise StoreError(f"{target} has {size:,} bytes after copying {path} of {path.stat().st_size:,}")
        return target if self._local else target.lstrip("/").partition("/")[2]


def in_place(path: Path) -> str:
    """The name of a file that Milvus reads in place."""
    return str(path.resolve())
