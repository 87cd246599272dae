"""Numbers and texts in MATLAB files of version 5 to 7, the form of some official lists.

Kept although `scipy.io.loadmat` reads more of the format: on a damaged file its compiled reader can crash the whole
process, and here the fault is a `DataError` like any other.

A file is a header and then elements: a tag with type and size, and content, which may be elements again. A matrix is
an element of at least three: flags with its class, shape, and name. (MathWorks, MAT-File Format, level 5.)
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.errors import DataError

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
"""Types of elements; above, those of numbers and texts."""
_CELLS, _CHARACTERS, _NUMERIC = 1, 4, range(6, 16)
"""Classes of matrices."""
_HEADER = 128
_MAX_ELEMENT_BYTES = 100_000_000
"""Largest size of a decompressed element."""
_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
"""Version 1.0 and byte order, at the end of the header."""

_Element = tuple[int, bytes]


class _Matrix(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    name: str
    parts: list[_Element]


def read_numbers(path: Path, name: str) -> list[int]:
    """The whole numbers of the array ``name``, column by column.

    Raises:
        DataError: when the file is missing or damaged, or ``name`` is not such an array.
    """
    with _explain_errors(path):
        matrix, order = _find(path, name)
        if matrix.kind in _NUMERIC and len(matrix.parts) == 1 and matrix.parts[0][0] in _NUMBERS:
            kind, content = matrix.parts[0]
            values = np.frombuffer(content, order + _NUMBERS[kind])
            whole = np.isfinite(values).all() and (values == np.floor(values)).all()
            if whole and len(values) == math.prod(matrix.shape):
                return [int(value) for value in values.tolist()]
        raise ValueError(f"{name} is not an array of whole numbers")


def read_texts(path: Path, name: str) -> list[str]:
    """The texts of the cell array ``name``, column by column.

    Raises:
        DataError: when the file is missing or damaged, or ``name`` is not such an array.
    """
    with _explain_errors(path):
        matrix, order = _find(path, name)
        if matrix.kind == _CELLS and len(matrix.parts) == math.prod(matrix.shape):
            texts = [text for part in matrix.parts if (text := _text(part, order)) is not None]
            if len(texts) == len(matrix.parts):
                return texts
        raise ValueError(f"{name} is not a cell array of texts")


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no {path}; is {path.parent} the folder of the data set?") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from None


def _find(path: Path, name: str) -> tuple[_Matrix, str]:
    """The variable and the file's byte order."""
    reject_pointer(path, DataError)
    raw = read_bounded(path, MAX_RECORD_BYTES)
    order = _ORDERS.get(raw[_HEADER - 4 : _HEADER])
    if order is None:
        raise ValueError("expected a MAT-file of version 5 to 7")
    for kind, content in _elements(raw[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, content = next(_elements(_decompressed(content), order))
        if kind == _MATRIX:
            matrix = _matrix(content, order)
            if matrix.name == name:
                return matrix, order
    raise ValueError(f"there is no variable {name}")


def _elements(raw: bytes, order: str) -> Iterator[_Element]:
    """(type, content) of each element."""
    at = 0
    while at < len(raw):
        (tag,) = struct.unpack_from(f"{order}I", raw, at)
        kind, size, start = tag & 0xFFFF, tag >> 16, at + 4
        if size == 0:  # else content of up to 4 bytes shares the 8 bytes of the tag
            kind, size = struct.unpack_from(f"{order}II", raw, at)
            start = at + 8
        if start + size > len(raw):
            raise ValueError("it ends in the middle of an element")
        yield kind, raw[start : start + size]
        at = start + size
        if kind != _COMPRESSED:
            at += -(start + size) % 8


def _decompressed(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    raw = decompressor.decompress(content, _MAX_ELEMENT_BYTES)
    if not raw or not decompressor.eof:
        raise ValueError(f"a compressed element is damaged or larger than {_MAX_ELEMENT_BYTES:,} bytes")
    return raw


def _matrix(content: bytes, order: str) -> _Matrix:
    (_, flags), (_, shape), (_, name), *parts = _elements(content, order)
    (kind,) = struct.unpack_from(f"{order}I", flags)
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return _Matrix(kind & 0xFF, sizes, name.decode("latin-1"), parts)


def _text(element: _Element, order: str) -> str | None:
    """A text is a matrix of one row of characters; None for anything else."""
    if element[0] != _MATRIX or not element[1]:
        return None
    matrix = _matrix(element[1], order)
    if matrix.kind != _CHARACTERS or matrix.shape[:1] != (1,) or len(matrix.parts) != 1:
        return None
    kind, content = matrix.parts[0]
    if kind not in _TEXTS:
        return None
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    return content.decode(encoding)
