"""`learned.npz`: codes of the training photos in a NumPy archive, which is read safely even if it is hostile.

`numpy.load` unpacks everything in an archive and allocates whatever a header claims. Here only three arrays are read,
and the length that a header claims must be that of the data after it.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, check_codes
from milvus_fghash.errors import BundleError, CodeError

MAX_BYTES: Final = 1 << 30
"""Limit for the file, and for the arrays in it; a million photos with long ids take half of it."""
ARRAYS: Final = ("ids", "labels", "codes")
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 1
_DAMAGE: Final = (
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    OverflowError,
    OSError,
)
"""What `zipfile` and NumPy raise on damaged archives; `RuntimeError` for features that `zipfile` does not have."""


@dataclass(frozen=True)
class LearnedCodes:
    """Codes optimised with the labels of the training photos; the network alone does not give them.

    Attributes:
        ids: (n,) ids of the training photos.
        labels: (n,) names of their classes.
        codes: (n, ceil(bits / 8)) uint8.
        source: where the codes come from, such as "V" or "class codes".
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    codes: Codes
    source: str

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.labels) == len(self.codes) > 0:
            raise BundleError(
                f"learned codes must have an id and a label each: got {len(self.ids)} ids, "
                f"{len(self.labels)} labels and {len(self.codes)} codes"
            )


def pack_learned(learned: LearnedCodes, bits: int) -> bytes:
    """The archive as bytes; the same codes give the same bytes.

    Raises:
        CodeError: when the codes do not have ``bits`` bits.
    """
    raw = io.BytesIO()
    np.savez(
        raw,
        ids=np.array(learned.ids, str),
        labels=np.array(learned.labels, str),
        codes=check_codes(learned.codes, bits),
    )
    return raw.getvalue()


def unpack_learned(raw: bytes, source: str, bits: int) -> LearnedCodes:
    """The inverse of `pack_learned`.

    Raises:
        BundleError: when the bytes are not such an archive.
    """
    try:
        ids, labels, codes = _arrays(raw)
        for name, array in (("ids", ids), ("labels", labels)):
            if array.dtype.kind != "U" or array.ndim != 1:
                raise ValueError(f"{name} must be a row of text, got {array.dtype} {array.shape}")
        learned = LearnedCodes(tuple(ids.tolist()), tuple(labels.tolist()), check_codes(codes, bits), source)
        for text in (*learned.ids, *learned.labels):
            text.encode()  # lone surrogates can be neither shown nor stored
        return learned
    except (*_DAMAGE, CodeError) as error:
        raise BundleError(f"learned.npz cannot be used: {error}. Export the model again") from None


def _arrays(raw: bytes) -> list[NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [_member(archive, f"{name}.npy") for name in ARRAYS]
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise ValueError(f"its arrays have more than the {MAX_BYTES:,} bytes that are read at most")
        return [_array(member.filename, archive.read(member)) for member in members]


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if member.filename == name]
    if len(found) != 1:
        raise ValueError(f"it holds {name} {len(found)} times, expected once")
    (member,) = found
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if member.compress_type not in _METHODS:
        raise ValueError(f"{name} is compressed by method {member.compress_type}; expected none, or deflate")
    return member


def _array(name: str, raw: bytes) -> NDArray[Any]:
    """One array, after checking its header against its length: NumPy would allocate what the header claims."""
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise ValueError(f"{name} has version {version} of the NumPy format; expected 1.0 or 2.0")
    try:
        shape, _, kind = read_header(stream)
    except Exception:  # NumPy reads it with Python's parser, which may raise anything
        raise ValueError(f"{name} has a header that cannot be read") from None
    if kind.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded")
    claimed, there = math.prod(shape) * kind.itemsize, len(raw) - stream.tell()
    if claimed != there or not kind.itemsize:
        raise ValueError(f"the header of {name} claims {claimed:,} bytes, but {there:,} follow it")
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    return array
