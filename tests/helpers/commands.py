"""What the tests of commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

Run = Callable[..., Result]

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-v1"


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def release_databases(folder: Path) -> None:
    """End the servers of the Milvus Lite files in a folder; else they live as long as the tests do."""
    if "milvus_lite" in sys.modules:  # which warns when it is imported before `connect`
        from milvus_lite.server_manager import server_manager_instance

        for file in folder.glob("*.db"):
            server_manager_instance.release_server(str(file))
