"""`training-photos.bin`: which photos a model was trained on, as salted digests of their content.

Evaluation looks up whether a photo was trained on. The file holds no names, and 8 bytes a photo: of ten million photos
trained on, one is taken for another photo once in 10^12 look-ups. Digests are sorted, so neither order nor classes can
be read from it.

    16 bytes of salt, then 8 bytes a photo, big-endian, ascending: first the photos with labels, then those without
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.core.labels import class_names
from milvus_fghash.errors import BundleError

SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 8
_SHA256: Final = re.compile("[0-9a-f]{64}")
_DIGEST: Final = np.dtype(">u8")

Digests = NDArray[np.uint64]


class TrainingPhotosInfo(Frozen):
    """The manifest's description of `training-photos.bin`."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # a test compares docs/bundle-format.md with them

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of `training-photos.bin`."""
    labelled: Annotated[int, Field(ge=0)]
    """Number of photos whose labels were trained with."""
    unlabelled: Annotated[int, Field(ge=0)]
    """Number of photos that were trained on without labels."""
    classes: tuple[str, ...]
    """Names of the classes that were trained with, sorted."""


@dataclass(frozen=True)
class TrainingPhotos:
    """Digests of the photos that a model was trained on.

    Attributes:
        salt: 16 bytes that enter each digest.
        labelled: ascending digests of the photos whose labels were trained with.
        unlabelled: of those that were trained on without labels.
        classes: names of the classes that were trained with, sorted.
    """

    salt: bytes
    labelled: Digests
    unlabelled: Digests
    classes: tuple[str, ...]

    @classmethod
    def of(cls, content_shas: Sequence[str], labels: Sequence[str], salt: bytes) -> TrainingPhotos:
        """Make the record.

        Args:
            content_shas: (n,) SHA-256 of each file, in hexadecimal.
            labels: (n,) class names that are trained with; "" for photos trained on without labels.
            salt: 16 bytes; another salt gives other digests for the same photos.
        """
        digests = _digests(content_shas, salt)
        named = np.array([bool(label) for label in labels], bool)
        return cls(salt, np.sort(digests[named]), np.sort(digests[~named]), tuple(class_names(labels)))

    def pack(self) -> bytes:
        """The file."""
        return self.salt + self.labelled.astype(_DIGEST).tobytes() + self.unlabelled.astype(_DIGEST).tobytes()

    @property
    def info(self) -> TrainingPhotosInfo:
        """Its description."""
        return TrainingPhotosInfo(
            sha256=hashlib.sha256(self.pack()).hexdigest(),
            labelled=len(self.labelled),
            unlabelled=len(self.unlabelled),
            classes=self.classes,
        )

    @classmethod
    def unpack(cls, raw: bytes, info: TrainingPhotosInfo) -> TrainingPhotos:
        """The inverse of `pack`.

        Raises:
            BundleError: when the length does not fit ``info``.
        """
        expected = SALT_BYTES + DIGEST_BYTES * (info.labelled + info.unlabelled)
        if len(raw) != expected:
            raise BundleError(
                f"training-photos.bin has {len(raw):,} bytes; {info.labelled:,} labelled and {info.unlabelled:,} "
                f"unlabelled photos take {expected:,}. Export the model again"
            )
        digests = np.frombuffer(raw, _DIGEST, offset=SALT_BYTES).astype(np.uint64)
        return cls(raw[:SALT_BYTES], digests[: info.labelled], digests[info.labelled :], info.classes)

    def find(self, content_shas: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which photos were trained on with labels, and which without; both (n,).

        Args:
            content_shas: (n,) SHA-256 of each file, in hexadecimal; "" where it is unknown, which is in neither.
        """
        known = np.array([bool(_SHA256.fullmatch(sha)) for sha in content_shas], bool)
        digests = _digests([sha if there else "" for sha, there in zip(content_shas, known, strict=True)], self.salt)
        return known & np.isin(digests, self.labelled), known & np.isin(digests, self.unlabelled)


def _digests(content_shas: Iterable[str], salt: bytes) -> Digests:
    raw = b"".join(
        hashlib.blake2b(bytes.fromhex(sha), digest_size=DIGEST_BYTES, salt=salt).digest() for sha in content_shas
    )
    return np.frombuffer(raw, _DIGEST).astype(np.uint64)
