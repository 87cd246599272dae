"""Binary codes: logits -> bits -> packed bytes -> Hamming distance.

Shapes used in the project:
    logits   (n, n_bits)   float   output of a network, before thresholding
    signs    (n, n_bits)   float   +1 / -1, codes learned together with a network (V in the papers)
    codes    (n, n_bytes)  uint8   packed, first bit is the highest bit of byte 0 (np.packbits), as Milvus stores them

A zero logit is a 0 bit. Spare bits of the last byte are 0 in every code, so they never add distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import CodeError, NotFinite

Logits = NDArray[np.floating[Any]]
Codes = NDArray[np.uint8]


def code_bytes(n_bits: int) -> int:
    """Bytes that hold ``n_bits``; Milvus stores full bytes, so 12 bits take 2.

    >>> code_bytes(12), code_bytes(48)
    (2, 6)
    """
    return (n_bits + 7) // 8


def pack(logits: Logits) -> Codes:
    """Threshold at zero and pack; (n, n_bits) -> (n, n_bytes).

    >>> pack(np.array([[0.5, -0.1, 0.0, 2.0, -1, -1, -1, -1, 1, 1, -1, -1]]))
    array([[144, 192]], dtype=uint8)

    Raises:
        CodeError: when the array is not two-dimensional.
        NotFinite: when it holds values that are not finite.
    """
    if logits.ndim != 2:
        raise CodeError(f"logits must be (n, n_bits), got shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise NotFinite(f"logits hold {np.count_nonzero(~np.isfinite(logits))} values that are not finite")
    return np.packbits(logits > 0, axis=1)


def unpack(codes: Codes, n_bits: int) -> NDArray[np.bool_]:
    """(n, n_bytes) -> (n, n_bits) of bits; the inverse of `pack` up to the sizes of the logits."""
    check_codes(codes, n_bits)
    return np.unpackbits(codes, axis=1, count=n_bits).astype(bool)


def check_codes(codes: Codes, n_bits: int) -> Codes:
    """Return ``codes`` if they are C-contiguous uint8 rows of the right width with clear spare bits.

    Milvus itself does not check the width of a row: a short or long row shifts bits into its neighbours.
    So all codes that are written or searched are checked by this function.

    Raises:
        CodeError: otherwise.
    """
    if codes.dtype != np.uint8:
        raise CodeError(f"codes must be uint8, got {codes.dtype}")
    width = code_bytes(n_bits)
    if codes.ndim != 2 or codes.shape[1] != width:
        raise CodeError(f"codes of {n_bits} bits must have shape (n, {width}), got {codes.shape}")
    spare = width * 8 - n_bits
    if spare and (codes[:, -1] & ((1 << spare) - 1)).any():
        raise CodeError(f"the last {spare} bits of a {n_bits}-bit code must be 0; these codes use another layout")
    return np.ascontiguousarray(codes)


def hamming(queries: Codes, gallery: Codes) -> NDArray[np.uint16]:
    """Distances in bits, (n_queries, n_gallery).

    >>> hamming(np.array([[0b1001]], np.uint8), np.array([[0b1000], [0b0110]], np.uint8))
    array([[1, 4]], dtype=uint16)
    """
    if queries.shape[1] != gallery.shape[1]:
        raise CodeError(
            f"queries have {queries.shape[1]} bytes a code, the gallery {gallery.shape[1]}: "
            "they come from different models"
        )
    distances = np.zeros((len(queries), len(gallery)), np.uint16)
    for byte in range(queries.shape[1]):  # byte by byte: at most one (n_queries, n_gallery) array in memory
        distances += np.bitwise_count(queries[:, None, byte] ^ gallery[None, :, byte])
    return distances


def differing_bits(first: Codes, second: Codes) -> NDArray[np.int64]:
    """Row-wise distances in bits between two arrays of codes, both (n, n_bytes) -> (n,).

    >>> differing_bits(np.array([[0b1001], [0b1001]], np.uint8), np.array([[0b1000], [0b0110]], np.uint8))
    array([1, 4])
    """
    distances: NDArray[np.int64] = np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)
    return distances


def to_hex(codes: Codes) -> list[str]:
    """One lower-case hex string per code.

    >>> to_hex(np.array([[144, 192]], np.uint8))
    ['90c0']
    """
    return [row.tobytes().hex() for row in codes]


def from_hex(text: str, n_bits: int) -> Codes:
    """A hex string -> one code, (1, n_bytes).

    Raises:
        CodeError: when it is not hexadecimal, or has another length than ``n_bits`` needs.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise CodeError(f"{text!r} is not a hex code; expected {2 * code_bytes(n_bits)} digits 0-9 a-f") from None
    if len(raw) != code_bytes(n_bits):
        raise CodeError(f"{text!r} has {2 * len(raw)} hex digits; a {n_bits}-bit code has {2 * code_bytes(n_bits)}")
    return check_codes(np.frombuffer(raw, np.uint8)[None], n_bits)
