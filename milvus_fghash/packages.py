"""Which packages are installed."""

from __future__ import annotations

from importlib import metadata


def installed(package: str) -> str | None:
    """Version of a package, None where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
