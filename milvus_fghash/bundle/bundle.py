"""What training hands to serving: a folder with `encoder.onnx`, `bundle.json` and, for some methods, `learned.npz`.

The format is described in docs/bundle-format.md. Nothing in a bundle names another file, so nothing can point outside.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from milvus_fghash._version import __version__
from milvus_fghash.bundle.learned_codes import MAX_BYTES, LearnedCodes, pack_learned, unpack_learned
from milvus_fghash.bundle.manifest import FORMAT_VERSION, BundleManifest, Description, LearnedInfo, fingerprint
from milvus_fghash.bundle.onnx_check import check_graph
from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.file_models import read_model
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import BundleError, ConfigError

__all__ = [
    "Bundle",
    "BundleManifest",
    "Description",
    "LearnedCodes",
    "LearnedInfo",
    "fingerprint",
    "is_bundle",
    "read_bundle",
    "reject_taken",
    "write_bundle",
]

GRAPH, MANIFEST, LEARNED = "encoder.onnx", "bundle.json", "learned.npz"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and verified. Files are verified again whenever they are read."""

    path: Path
    manifest: BundleManifest

    def graph(self) -> bytes:
        """The ONNX file; load it from these bytes, not from the path, so that what was verified is what runs.

        Raises:
            BundleError: when it is gone, was changed, reaches outside itself, or has weights that are no numbers.
        """
        graph = _verified(self.path / GRAPH, self.manifest.graph_sha256)
        check_graph(graph)
        return graph

    def learned(self) -> LearnedCodes | None:
        """Codes learned in training; None for methods that learn none.

        Raises:
            BundleError: when the file is gone, was changed, or does not fit the manifest.
        """
        info = self.manifest.learned
        if info is None:
            return None
        learned = unpack_learned(
            _verified(self.path / LEARNED, info.sha256, MAX_BYTES), info.source, self.manifest.bits
        )
        if len(learned.ids) != info.count:
            raise BundleError(f"{self.path / LEARNED} holds {len(learned.ids)} codes, {MANIFEST} says {info.count}")
        return learned


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like one; `read_bundle` says whether it is whole."""
    return (path / MANIFEST).exists()


def read_bundle(path: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: when a part is missing, was changed, was made by a newer version, or is not allowed.
    """
    path = Path(path)
    if not path.is_dir():
        raise BundleError(f"{path} is no bundle: expected a folder with {GRAPH} and {MANIFEST}, as export makes it")
    if not is_bundle(path) and (path / "checkpoints").exists():
        raise BundleError(f"{path} is a training; export makes a bundle of it")
    values = _parse_manifest(path / MANIFEST)
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, made by a newer milvus-fghash; this one reads up to "
            f"{FORMAT_VERSION}. Upgrade milvus-fghash"
        )
    if version is None:
        raise BundleError(f"{path / MANIFEST} names no format_version; export the model again")
    try:
        bundle = Bundle(path, read_model(BundleManifest, values, str(path / MANIFEST)))
    except ConfigError as error:
        raise BundleError(f"{error}. Export the model again") from None
    bundle.graph()
    bundle.learned()
    return bundle


def write_bundle(
    path: Path, graph: bytes, description: Description, learned: LearnedCodes | None = None, *, overwrite: bool = False
) -> Bundle:
    """Write a bundle whole or not at all, and read it back.

    It is made under another name beside `path` and renamed when complete. An old bundle that is overwritten stays in
    place until then.

    Raises:
        BundleError: when `path` is taken, a part is not allowed, or the disk rejects.
    """
    path = Path(path).resolve()
    reject_taken(path, overwrite)
    files = {GRAPH: graph}
    info = None
    if learned is not None:
        files[LEARNED] = pack_learned(learned, description.bits)
        info = LearnedInfo(sha256=_sha256(files[LEARNED]), count=len(learned.ids), source=learned.source)
    manifest = BundleManifest(
        **description.model_dump(), made_by=f"milvus-fghash {__version__}", graph_sha256=_sha256(graph), learned=info
    )
    values = {"format_version": FORMAT_VERSION, **manifest.model_dump(mode="json")}  # the version is read first
    files[MANIFEST] = (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        with atomic_path(path) as unfinished:
            unfinished.mkdir()
            for name, raw in files.items():
                (unfinished / name).write_bytes(raw)
            read_bundle(unfinished)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {path}: {error.strerror}") from error
    return Bundle(path, manifest)


def reject_taken(path: Path, overwrite: bool) -> None:
    """Reject a path where no bundle may be written; for callers with long work before `write_bundle`.

    Raises:
        BundleError: when something stands there, or with `overwrite` something that is no bundle.
    """
    if not path.exists():
        return
    if not overwrite:
        raise BundleError(f"{path} exists; choose another name, or overwrite it", setting="overwrite")
    strangers = {file.name for file in path.iterdir()} - {GRAPH, MANIFEST, LEARNED} if path.is_dir() else {path.name}
    if strangers:
        raise BundleError(f"{path} holds more than a bundle ({min(strangers)}), so it is not overwritten")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _read(path: Path, most: int) -> bytes:
    """A part. No link is followed: whoever gives the bundle must not choose among the files of who reads it."""
    reject_pointer(path, BundleError)
    try:
        return read_bounded(path, most, links=False)
    except FileNotFoundError as error:
        raise BundleError(f"the bundle lacks a part: cannot read {path}: {error.strerror}") from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}. Get the bundle again") from None


def _verified(path: Path, sha256: str, most: int = MAX_LIST_BYTES) -> bytes:
    raw = _read(path, most)
    if _sha256(raw) != sha256:
        raise BundleError(
            f"{path} was changed after export: its SHA-256 is {_sha256(raw)}, {MANIFEST} says {sha256}. "
            "Get the bundle again or export the model again"
        )
    return raw


def _parse_manifest(path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) != len(dict(pairs)):
            raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
        return dict(pairs)

    def reject(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else reject(text)

    try:
        values = parse_json(
            _read(path, MAX_RECORD_BYTES), object_pairs_hook=unique, parse_constant=reject, parse_float=finite
        )
    except ValueError as error:
        raise BundleError(f"{path} is no valid JSON: {error}. Export the model again") from None
    if not isinstance(values, dict):
        raise BundleError(f"{path} must hold one JSON object, got {type(values).__name__}. Export the model again")
    return values
