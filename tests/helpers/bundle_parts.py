"""Taking bundles apart, and changing parts of them, for tests."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.bundle.bundle import Bundle, Description


def description(of: Bundle) -> Description:
    return Description(**{name: getattr(of.manifest, name) for name in Description.model_fields})


def change_manifest(bundle: Path, **changes: Any) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_part(bundle: Path, name: str, raw: bytes) -> None:
    """As an attacker would: the part and its SHA-256 in the manifest."""
    (bundle / name).write_bytes(raw)
    sha256 = hashlib.sha256(raw).hexdigest()
    learned = json.loads((bundle / "bundle.json").read_text())["learned"]
    changes = {"graph_sha256": sha256} if name == "encoder.onnx" else {"learned": learned | {"sha256": sha256}}
    change_manifest(bundle, **changes)


def npz(**arrays: NDArray[Any]) -> bytes:
    raw = io.BytesIO()
    np.savez(raw, **arrays)  # type: ignore[arg-type]  # the stub takes the names for allow_pickle
    return raw.getvalue()


def folder_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
