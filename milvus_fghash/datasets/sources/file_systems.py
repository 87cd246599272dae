"""The file systems of fsspec: one for each protocol, set up by the user's own settings, and what they raise."""

from __future__ import annotations

import os
from typing import Any, Final

from milvus_fghash.core.masking import KNOWN_SECRETS, masked, without_secrets
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.sources.location import protocol_of, url_problem
from milvus_fghash.errors import ConfigError, DataError, ImageRejected, MissingExtra, one_line, optional_extra

FileSystem = Any
"""One of fsspec's, which tells no types of what its file systems do in the background."""

EXTRAS: Final = {"http": "http", "https": "http", "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol -> part of this package that brings it. What other protocols need, fsspec itself says."""


def filesystem(where: str) -> tuple[FileSystem, str]:
    """The fsspec file system for a URL, and what the URL is called there. Nothing is connected.

    Options and credentials come from fsspec's own configuration and from the environment. A chain of file systems
    (``::``) is not followed.

    Raises:
        MissingExtra: when packages for it are not installed.
        ConfigError: when the configuration or a variable of the environment cannot be read.
        DataError: when there is no such protocol, the URL is malformed, or the server of a file system that connects
            at once, as that of FTP does, is not there.
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
            f"nothing can be read from {without_secrets(where)}: expected s3://, gs://, https:// or another protocol "
            "that fsspec knows"
        ) from None
    options: dict[str, Any] = {}
    if protocol in {"http", "https"}:
        from milvus_fghash.datasets.sources.http_session import new_session

        options = {"encoded": True, "get_client": new_session}
    try:
        path = str(kind._strip_protocol(where))
        return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(where), **options), path
    except Exception as error:  # some connect, each with errors of its own
        raise DataError(f"{fetch_error(without_secrets(where), error, where)}") from None


def has_bulk_find(files: FileSystem) -> bool:
    """Whether a file system has a way of its own to find all below a folder.

    fsspec's way for the others passes over folders that it cannot list.
    """
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    kind = type(files)
    return kind.find is not AbstractFileSystem.find or getattr(kind, "_find", None) not in (None, AsyncFileSystem._find)


def fetch_error(shown: str, error: BaseException, where: str = "") -> ImageRejected:
    """What happened on the way to a place, as a rejection that tells nothing secret of the URL ``where``."""
    match error:
        case ImageRejected():
            return error
        case FileNotFoundError():
            return ImageRejected("missing", f"{shown} does not exist")
        case TimeoutError():
            return ImageRejected("timeout", f"{shown} did not come in time")
    text = masked(one_line(error) or type(error).__name__, where)[:200]
    if isinstance(error, TypeError | AttributeError) and (names := _variables(protocol_of(where))):
        text += f"; is what {' and '.join(names)} says right?"
    return ImageRejected("unreachable", f"{shown} cannot be fetched: {text}")


def _variables(protocol: str) -> list[str]:
    """Names of the environment's variables that set up the file system of a protocol."""
    alike = {name for name, extra in EXTRAS.items() if extra == EXTRAS.get(protocol)} | {protocol}
    return sorted(
        name for name in os.environ if name.startswith("FSSPEC_") and name.split("_")[1].lower() in alike - {""}
    )


def _check_variables(protocol: str) -> None:
    """fsspec only warns of a malformed variable, and goes on without the credentials that stand in it."""
    for name in _variables(protocol):
        if name.count("_") > 1:
            continue
        try:
            good = isinstance(parse_json(os.environ[name]), dict)
        except ValueError:
            good = False
        if not good:  # the value is not shown: it may hold a password
            raise ConfigError(f'the environment variable {name} is no JSON object; expected such as {{"anon": true}}')


def _import_fsspec() -> Any:
    try:
        import fsspec.config
    except ModuleNotFoundError:
        raise
    except Exception as error:  # it reads its files as it is imported
        raise ConfigError(
            f"fsspec cannot read its settings (in ~/.config/fsspec, or where FSSPEC_CONFIG_DIR says): {one_line(error)}"
        ) from None
    KNOWN_SECRETS.add_settings(fsspec.config.conf)
    return fsspec
