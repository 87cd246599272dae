"""Checks an ONNX file without the onnx package: it must be self-contained, and its weights finite.

An ONNX file may read weights from other files, and use operators of a loaded library. Both have been used in attacks
(CVE-2022-25882, CVE-2024-27318, CVE-2025-51480), and a bundle needs neither. Weights that are NaN or infinite give the
same code for every photo, and may not show in the outputs: ONNX Runtime's ReLU after a convolution may turn NaN into 0.

The onnx package is no dependency of serving, hence this parser. The file is protobuf: a message is a sequence of (field
number, wire type, value). Only the fields below are followed; their numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import BundleError

MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute", 7: "domain"},
    "attribute": {
        2: "number",
        5: "tensor",
        6: "graph",
        7: "number",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {2: "type", 4: "number", 8: "name", 9: "raw", 10: "number", 13: "external", 14: "location"},
    "opset": {1: "domain"},
}
"""Message -> field number -> meaning."""

FLOATS: Final = {1: "<f4", 10: "<f2", 11: "<f8", 16: "bfloat16", 14: "<f4", 15: "<f8"}
"""Type of a tensor -> type of its values, or of the two parts of a complex value. Floats of 8 bits are not checked."""
STANDARD_DOMAINS = (b"", b"ai.onnx")
MAX_DEPTH = 64


def check_graph(model: bytes) -> None:
    """Check that a model reads no other file, uses only standard operators, and has finite weights.

    Infinity is allowed as a bound (a single value) and in a mask (minus infinity and zeros).

    Raises:
        BundleError: otherwise, and when the bytes are not an ONNX model.
    """
    try:
        kinds = _walk(memoryview(model), "model", 0)
    except (IndexError, ValueError):
        raise BundleError("the graph is not a readable ONNX file; export the model again") from None
    if not {"graph", "opset"} <= kinds:
        raise BundleError("the graph is not a readable ONNX file: it has no graph or no operator set")


def _walk(message: memoryview, kind: str, depth: int) -> set[str]:
    """Check a message; returns the kinds of field found directly in it."""
    if depth > MAX_DEPTH:
        raise BundleError(f"the graph is nested more than {MAX_DEPTH} levels deep; no encoder needs that")
    values: dict[str, list[Any]] = {}
    for number, value in _fields(message):
        inner = MESSAGES[kind].get(number)
        if inner is None:
            continue
        values.setdefault(inner, []).append(value)
        if inner == "external" or (inner == "location" and value != 0):
            raise BundleError("the graph keeps weights in another file; a bundle must hold all of them in encoder.onnx")
        if inner in ("location", "type"):
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"{inner} is not a message")
        if inner in MESSAGES:
            _walk(value, inner, depth + 1)
        elif inner == "domain" and bytes(value) not in STANDARD_DOMAINS:
            raise BundleError(f"the graph uses operators of {bytes(value)!r}; expected those of the ONNX standard only")
    if kind == "tensor":
        name = bytes(values.get("name", [b""])[-1]).decode("utf-8", "replace")
        _check_finite(values, FLOATS.get(values.get("type", [0])[-1]), f"the weights {name!r}")
    elif kind == "attribute":
        _check_finite(values, "<f4", "a constant")
    return set(values)


def _check_finite(values: dict[str, list[Any]], kind: str | None, what: str) -> None:
    """Check a tensor: its values are a run of little-endian bytes, or numbers that may be a field each."""
    parts = values.get("raw") or values.get("number")
    if kind is None or not parts:
        return
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    numbers: NDArray[Any] = (
        (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        if kind == "bfloat16"
        else np.frombuffer(raw, kind)
    )
    finite = np.isfinite(numbers)
    if finite.all():
        return
    odd = numbers[~finite]
    bound = len(numbers) == 1 and not np.isnan(odd).any()
    mask = (odd == -np.inf).all() and finite.any() and not numbers[finite].any()
    if not (bound or mask):
        raise BundleError(
            f"{what} of the graph: {len(odd):,} of {len(numbers):,} values are not finite, so the codes are useless. "
            "Export an earlier checkpoint, from before the training diverged"
        )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >= 1 << 32:  # parsers disagree about such a key
            raise ValueError("field number out of range")
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
