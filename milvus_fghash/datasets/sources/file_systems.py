"""fsspec's file systems: one for each protocol, configured by the user's own settings; their errors as messages.

S3 is read by s3fs. docs/sources.md says why not by obstore.
"""

from __future__ import annotations

import os
from typing import Any, Final

from milvus_fghash.core.masking import KNOWN_SECRETS, masked, without_secrets
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.sources.location import protocol_of, url_problem
from milvus_fghash.errors import ConfigError, DataError, ImageRejected, MissingExtra, one_line, optional_extra

FileSystem = Any
"""A file system of fsspec, which has no types for its asynchronous methods."""

EXTRAS: Final = {"http": "http", "https": "http", "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol -> extra of this package that installs it. For other protocols, fsspec names the package."""


def filesystem(where: str) -> tuple[FileSystem, str]:
    """The fsspec file system for a URL, and the path of the URL in it. Most file systems connect later.

    Options and credentials come from fsspec's configuration and the environment. Chained URLs (``::``) are not
    resolved.

    Raises:
        MissingExtra: when packages for the protocol are not installed.
        ConfigError: when the configuration or an environment variable cannot be read.
        DataError: for an unknown protocol, a malformed URL, or a server, such as that of FTP, that cannot be reached.
    """
    protocol = protocol_of(where)
    if problem := url_problem(where):
        raise DataError(problem)
    _check_variables(protocol)
    with optional_extra(EXTRAS.get(protocol, "http")):
        fsspec = _import_fsspec()
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        hint = f"pip install 'milvus-fghash[{EXTRAS[protocol]}]'" if protocol in EXTRAS else str(error)
        raise MissingExtra(f"{protocol}:// needs packages that are not installed: {hint}") from error
    except ValueError:
        raise DataError(
            f"cannot read {without_secrets(where)}: expected s3://, gs://, https:// or another protocol of fsspec"
        ) from None
    options: dict[str, Any] = {}
    if protocol in {"http", "https"}:
        from milvus_fghash.datasets.sources.http_session import new_session

        options = {"encoded": True, "get_client": new_session}
    try:
        path = str(kind._strip_protocol(where))
        return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(where), **options), path
    except Exception as error:  # some connect at once; each has its own errors
        raise DataError(str(fetch_error(without_secrets(where), error, where))) from None


def has_bulk_find(files: FileSystem) -> bool:
    """Whether a file system lists all files below a folder itself.

    fsspec's generic implementation silently skips folders that cannot be listed.
    """
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    kind = type(files)
    return kind.find is not AbstractFileSystem.find or getattr(kind, "_find", None) not in (None, AsyncFileSystem._find)


def fetch_error(shown: str, error: BaseException, where: str = "") -> ImageRejected:
    """An error while fetching, as a rejection without the secrets of the URL ``where``.

    Args:
        shown: the name of what was fetched, for the message.
    """
    match error:
        case ImageRejected():
            return error
        case FileNotFoundError():
            return ImageRejected("missing", f"{shown} does not exist")
        case TimeoutError():
            return ImageRejected("timeout", f"{shown} did not arrive in time")
    text = masked(one_line(error) or type(error).__name__, where)[:200]
    if isinstance(error, TypeError | AttributeError) and (names := _variables(protocol_of(where))):
        text += f"; check {' and '.join(names)}"
    return ImageRejected("unreachable", f"{shown} cannot be fetched: {text}")


def _variables(protocol: str) -> list[str]:
    """Names of the environment variables that configure the file system of a protocol."""
    alike = {name for name, extra in EXTRAS.items() if extra == EXTRAS.get(protocol)} | {protocol}
    return sorted(
        name for name in os.environ if name.startswith("FSSPEC_") and name.split("_")[1].lower() in alike - {""}
    )


def _check_variables(protocol: str) -> None:
    """Reject a malformed variable. fsspec only warns, and continues without the credentials in it."""
    for name in _variables(protocol):
        if name.count("_") > 1:
            continue
        try:
            good = isinstance(parse_json(os.environ[name]), dict)
        except ValueError:
            good = False
        if not good:  # the value is not shown: it may hold a password
            raise ConfigError(f'the environment variable {name} is not a JSON object such as {{"anon": true}}')


def _import_fsspec() -> Any:
    try:
        import fsspec.config
    except ModuleNotFoundError:
        raise
    except Exception as error:  # fsspec reads its settings on import
        raise ConfigError(
            f"fsspec cannot read its settings in ~/.config/fsspec or FSSPEC_CONFIG_DIR: {one_line(error)}"
        ) from None
    KNOWN_SECRETS.add_settings(fsspec.config.conf)
    return fsspec
