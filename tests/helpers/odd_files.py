"""What may stand in the place of a file: a pipe that waits for ever, a device without end, a giant."""

from __future__ import annotations

import os
from pathlib import Path


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def giant(path: Path) -> None:
    """6 GB that take no place on the disk."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(6_000_000_000)
