"""Installed packages, and the folder for state that outlives a run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from milvus_fghash.errors import DataError


def installed(package: str) -> str | None:
    """Version of a package; None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, for those that are installed."""
    return {package: version for package in packages if (version := installed(package))}


def state_folder() -> Path:
    """Folder of journals and caches: below $XDG_STATE_HOME, by default ~/.local/state. It may not exist yet.

    Raises:
        DataError: when there is no home folder.
    """
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise DataError(
            "there is no home folder for the journal: set XDG_STATE_HOME, or choose a folder", setting="journal"
        ) from None
    return Path(base) / "milvus-fghash"
