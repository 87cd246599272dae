"""Loading ONNX Runtime, and how to install it."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from milvus_fghash.core.environment import installed
from milvus_fghash.errors import MissingExtra

DISTRIBUTIONS = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}
"""Extra -> its distribution of ONNX Runtime. Only one may be installed: both write to the same folder."""


def load_runtime() -> Any:
    """The onnxruntime module; warns when both distributions of it are installed.

    Raises:
        MissingExtra: when none is installed.
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
    """The shell command that installs the ONNX Runtime of ``extra``; installed distributions are removed first."""
    first = f"pip uninstall -y {' '.join(_installed())} && " if _installed() else ""
    return f"{first}pip install 'milvus-fghash[{extra}]'"


def _installed() -> list[str]:
    """The installed distributions of ONNX Runtime."""
    return [distribution for distribution in DISTRIBUTIONS.values() if installed(distribution)]
