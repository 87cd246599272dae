"""`learned.npz`: codes of the training photos, packed into a NumPy archive and taken out of one that may be hostile.

`numpy.load` unpacks whatever an archive holds and sets memory aside for whatever a header claims. Here an archive holds
three arrays and nothing else, and what a header says must be as long as what follows it.
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
"""At most for the file, and for the arrays in it: those of a million photos with long ids have half of it."""
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
"""What `zipfile` and NumPy raise on archives that nobody packed honestly; `RuntimeError` for what `zipfile` lacks."""


@dataclass(frozen=True)
class LearnedCodes:
    """Codes of the training photos made with their labels at hand; the graph does not give them again.

    Attributes:
        ids: (n,) the training photos' ids.
        labels: (n,) their class names.
        codes: (n, n_bytes) uint8.
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
    """The archive; the same codes give the same bytes.

    Raises:
        CodeError: when they are no codes of ``bits`` bits.
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
    """What `pack_learned` packed.

    Raises:
        BundleError: when it is something else.
    """
    try:
        ids, labels, codes = _arrays(raw)
        for name, array in (("ids", ids), ("labels", labels)):
            if array.dtype.kind != "U" or array.ndim != 1:
                raise ValueError(f"{name} must be a row of text, got {array.dtype} {array.shape}")
        learned = LearnedCodes(tuple(ids.tolist()), tuple(labels.tolist()), check_codes(codes, bits), source)
        for text in (*learned.ids, *learned.labels):
            text.encode()  # halves of surrogate pairs can neither be shown nor stored
        return learned
    except (*_DAMAGE, CodeError) as error:
        raise BundleError(f"learned.npz cannot be used: {error}. Export the model again") from None


def _arrays(raw: bytes) -> list[NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [_member(archive, f"{name}.npy") for name in ARRAYS]
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise ValueError(f"its arrays have more than {MAX_BYTES:,} bytes, which is the most that is read")
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
    """One array, after its header was held against its length: NumPy would set aside what the header claims."""
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise ValueError(f"{name} has version {version} of the NumPy format; expected 1.0 or 2.0")
    try:
        shape, _, kind = read_header(stream)
    except Exception:  # NumPy reads it with Python's own parser, in which nonsense provokes anything
        raise ValueError(f"{name} has a header that cannot be read") from None
    if kind.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded")
    claimed, there = math.prod(shape) * kind.itemsize, len(raw) - stream.tell()
    if claimed != there or not kind.itemsize:
        raise ValueError(f"the header of {name} claims {claimed:,} bytes, and {there:,} follow it")
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    return array
