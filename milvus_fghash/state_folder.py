"""Where the project remembers what is no result: below $XDG_STATE_HOME, which is ~/.local/state where it is not set."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """The folder; it need not be there."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "milvus-fghash"
