"""Where the project remembers what is no result: below $XDG_STATE_HOME, which is ~/.local/state where it is not set."""

from __future__ import annotations

import os
from pathlib import Path

from milvus_fghash.errors import DataError


def state_folder() -> Path:
    """The folder; it need not be there.

    Raises:
        DataError: when nothing says where it is.
    """
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise DataError(
            "there is no home folder to keep a journal in: set XDG_STATE_HOME, or name a folder", setting="journal"
        ) from None
    return Path(base) / "milvus-fghash"
