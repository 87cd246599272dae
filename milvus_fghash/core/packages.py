"""Which packages are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata


def installed(package: str) -> str | None:
    """Version of a package, None where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are there."""
    return {package: version for package in packages if (version := installed(package))}
