"""Looks into an ONNX file without the onnx package: does it need anything but itself and the standard operators?

An ONNX file may name other files to read weights from, and operators that a loaded library brings. Both have been
roads for attacks (CVE-2022-25882, CVE-2024-27318, CVE-2025-51480), and a bundle needs neither. The file is protobuf:
a message is a row of (field number, wire type, value). Only the fields below are followed; numbers are from onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from milvus_fghash.errors import BundleError

MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external", 14: "location"},
    "opset": {1: "domain"},
}
"""Message -> field number -> what stands there."""

STANDARD_DOMAINS = (b"", b"ai.onnx")
MAX_DEPTH = 64


def check_self_contained(model: bytes) -> None:
    """Pass a model that reads no other file and uses only the standard operators.

    Raises:
        BundleError: otherwise, and when the bytes are no ONNX model.
    """
    try:
        kinds = _walk(memoryview(model), "model", 0)
    except (IndexError, ValueError):
        raise BundleError("the graph is no readable ONNX file; export the model again") from None
    if not {"graph", "opset"} <= kinds:
        raise BundleError("the graph is no readable ONNX file: it has no graph or no operator set")


def _walk(message: memoryview, kind: str, depth: int) -> set[str]:
    """Follow a message; the kinds found directly in it."""
    if depth > MAX_DEPTH:
        raise BundleError(f"the graph nests more than {MAX_DEPTH} deep; no encoder needs that")
    found = set()
    for number, value in _fields(message):
        inner = MESSAGES[kind].get(number)
        if inner is None:
            continue
        found.add(inner)
        if inner == "external" or (inner == "location" and value != 0):
            raise BundleError("the graph keeps weights in another file; a bundle holds all in encoder.onnx")
        if inner == "location":
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"{inner} is no message")
        if inner != "domain":
            _walk(value, inner, depth + 1)
        elif bytes(value) not in STANDARD_DOMAINS:
            raise BundleError(f"the graph uses operators of {bytes(value)!r}; expected those of the ONNX standard only")
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >= 1 << 32:  # parsers differ in what they make of such a key
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
