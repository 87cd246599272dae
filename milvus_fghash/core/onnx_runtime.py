"""Which ONNX Runtime is installed, and how to get one. Whoever runs a graph imports it through here."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from milvus_fghash.core.packages import installed
from milvus_fghash.errors import MissingExtra

DISTRIBUTIONS = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}
"""Extra -> its ONNX Runtime. Only one of the two may be installed: they write to the same folder."""


def load_runtime() -> Any:
    """The onnxruntime module; warns when both distributions of it are installed.

    Raises:
        MissingExtra: when none is.
    """
    if len(_installed()) == 2:
        warnings.warn(
            f"{' and '.join(_installed())} are both installed and overwrite each other's files. Repair it with: "
            f"{how_to_install('gpu')} (or [cpu])",
            stacklevel=2,
        )
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({error})"
        raise MissingExtra(
            f"ONNX Runtime {why}. Install it with: pip install 'milvus-fghash[cpu]', or 'milvus-fghash[gpu]' on a "
            "machine with an NVIDIA GPU"
        ) from error


def how_to_install(extra: str) -> str:
    """The command line that installs the ONNX Runtime of ``extra``; what is there of the two has to go first."""
    first = f"pip uninstall -y {' '.join(_installed())} && " if _installed() else ""
    return f"{first}pip install 'milvus-fghash[{extra}]'"


def _installed() -> list[str]:
    """Those of the two that are there."""
    return [distribution for distribution in DISTRIBUTIONS.values() if installed(distribution)]
