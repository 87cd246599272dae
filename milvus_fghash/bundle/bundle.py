"""The bundle, an exported model: `encoder.onnx`, `bundle.json` and, for some, `learned.npz` and `training-photos.bin`.

The format is described in docs/bundle-format.md. No file of a bundle refers to another file.
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
from milvus_fghash.bundle.training_photos import TrainingPhotos
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

GRAPH, MANIFEST, LEARNED, TRAINING_PHOTOS = "encoder.onnx", "bundle.json", "learned.npz", "training-photos.bin"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and verified by `read_bundle`. Its files are verified again whenever they are read.

    Attributes:
        path: its folder.
        manifest: contents of `bundle.json`: method, code length, preprocessing, fingerprint and so on.

    Examples:
        >>> import milvus_fghash as fg
        >>> bundle = fg.read_bundle("bundles/birds")  # doctest: +SKIP
        >>> bundle.manifest.method, bundle.manifest.bits  # doctest: +SKIP
        ('kinhash', 24)
    """

    path: Path
    manifest: BundleManifest

    def graph(self) -> bytes:
        """Read the ONNX file.

        Returns:
            Its bytes. Load the model from them, not from the path, so that the verified file is the one that runs.

        Raises:
            BundleError: when it is missing, was changed, refers to other files, or has weights that are not finite.
        """
        graph = _verified(self.path / GRAPH, self.manifest.graph_sha256)
        check_graph(graph)
        return graph

    def learned(self) -> LearnedCodes | None:
        """Read the codes of the training photos that the method optimised with their labels.

        Returns:
            Ids, labels and codes, (n, ceil(bits / 8)) uint8; None for methods without such codes.

        Raises:
            BundleError: when the file is missing, was changed, or does not fit the manifest.
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

    def training_photos(self) -> TrainingPhotos | None:
        """Read which photos the model was trained on.

        Returns:
            Salted digests of their content, and the class names; None in bundles made before these were recorded.

        Raises:
            BundleError: when the file is missing, was changed, or does not fit the manifest.
        """
        info = self.manifest.training_photos
        if info is None:
            return None
        return TrainingPhotos.unpack(_verified(self.path / TRAINING_PHOTOS, info.sha256), info)


def is_bundle(path: Path) -> bool:
    """Whether a folder has a `bundle.json`; `read_bundle` verifies it."""
    return (path / MANIFEST).exists()


def read_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: folder that `export` made.

    Returns:
        The bundle, whose files all match the checksums of its manifest.

    Raises:
        BundleError: when a file is missing, was changed, was made by a newer version, or is not allowed in a bundle.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.read_bundle("bundles/birds").manifest.bits  # doctest: +SKIP
        24
    """
    path = Path(path)
    if not path.is_dir():
        raise BundleError(f"{path} is not a bundle: expected a folder with {GRAPH} and {MANIFEST}, as export writes it")
    if not is_bundle(path) and (path / "checkpoints").exists():
        raise BundleError(f"{path} is a training, not a bundle; export it first")
    values = _parse_manifest(path / MANIFEST)
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, made by a newer milvus-fghash; this one reads up to "
            f"{FORMAT_VERSION}. Upgrade milvus-fghash"
        )
    if version is None:
        raise BundleError(f"{path / MANIFEST} has no format_version; export the model again")
    try:
        bundle = Bundle(path, read_model(BundleManifest, values, str(path / MANIFEST)))
    except ConfigError as error:
        raise BundleError(f"{error}. Export the model again") from None
    bundle.graph()
    bundle.learned()
    bundle.training_photos()
    return bundle


def write_bundle(
    path: Path,
    graph: bytes,
    description: Description,
    learned: LearnedCodes | None = None,
    training_photos: TrainingPhotos | None = None,
    *,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle atomically, and read it back.

    It is written under another name beside `path` and renamed when complete. An old bundle stays in place until then.

    Raises:
        BundleError: when `path` is taken, a file is not allowed in a bundle, or it cannot be written.
    """
    path = Path(path).resolve()
    reject_taken(path, overwrite)
    files = {GRAPH: graph}
    info = None
    if learned is not None:
        files[LEARNED] = pack_learned(learned, description.bits)
        info = LearnedInfo(sha256=_sha256(files[LEARNED]), count=len(learned.ids), source=learned.source)
    manifest = BundleManifest(
        **description.model_dump(),
        made_by=f"milvus-fghash {__version__}",
        graph_sha256=_sha256(graph),
        learned=info,
        training_photos=training_photos.info if training_photos else None,
    )
    if training_photos:
        files[TRAINING_PHOTOS] = training_photos.pack()
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
    """Reject a path where no bundle may be written; for callers that work long before `write_bundle`.

    Raises:
        BundleError: when it exists, or with `overwrite` when it is something else than a bundle.
    """
    if not path.exists():
        return
    if not overwrite:
        raise BundleError(f"{path} exists; choose another name, or overwrite it", setting="overwrite")
    parts = {GRAPH, MANIFEST, LEARNED, TRAINING_PHOTOS}
    strangers = {file.name for file in path.iterdir()} - parts if path.is_dir() else {path.name}
    if strangers:
        raise BundleError(f"{path} holds more than a bundle ({min(strangers)}), so it is not overwritten")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _read(path: Path, most: int) -> bytes:
    """A file of the bundle. Links are not followed: a bundle must not make its reader open other files."""
    reject_pointer(path, BundleError)
    try:
        return read_bounded(path, most, links=False)
    except FileNotFoundError as error:
        raise BundleError(f"the bundle is incomplete: cannot read {path}: {error.strerror}") from None
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
            raise ValueError(f"a key occurs twice among {[key for key, _ in pairs]}")
        return dict(pairs)

    def reject(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else reject(text)

    try:
        values = parse_json(
            _read(path, MAX_RECORD_BYTES), object_pairs_hook=unique, parse_constant=reject, parse_float=finite
        )
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON: {error}. Export the model again") from None
    if not isinstance(values, dict):
        raise BundleError(f"{path} must hold one JSON object, got {type(values).__name__}. Export the model again")
    return values
