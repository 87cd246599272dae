"""TIFF files written by hand, for layouts of pixels that Pillow reads and cannot write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_SHORT, _LONG = 3, 4


def tiff(
    samples: NDArray[Any],
    *,
    bits: int,
    photometric: int | None,
    order: Literal["<", ">"] = "<",
    extra: Sequence[int] = (),
    sample_format: int = 1,
    palette: Sequence[int] = (),
    fill_order: int = 1,
    packed: bool = False,
    planes: bool = False,
    more: Sequence[tuple[int, Sequence[int]]] = (),
) -> bytes:
    """One image in one strip, or in one for each sample with ``planes``.

    Args:
        samples: (height, width, samples for each pixel), as the file holds them.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIELab; None says nothing.
        extra: what each sample behind the colours is: 0 unspecified, 1 associated alpha, 2 plain alpha.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        packed: compressed by deflate.
        more: further tags with their values, as SHORT.
    """
    height, width, count = samples.shape
    parts = [samples[..., band : band + 1] for band in range(count)] if planes else [samples]
    strips = [_packed_bits(part, bits, order, fill_order) for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    tags: list[tuple[int, int, Sequence[int]]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [bits] * count),
        (259, _SHORT, [8 if packed else 1]),
        (266, _SHORT, [fill_order]),
        (273, _LONG, [0] * len(strips)),
        (277, _SHORT, [count]),
        (278, _LONG, [height]),
        (279, _LONG, [len(strip) for strip in strips]),
        (284, _SHORT, [2 if planes else 1]),
        (339, _SHORT, [sample_format] * count),
        *([(262, _SHORT, [photometric])] if photometric is not None else []),
        *([(320, _SHORT, palette)] if palette else []),
        *([(338, _SHORT, extra)] if extra else []),
        *((tag, _SHORT, values) for tag, values in more),
    ]
    tags.sort()
    start = 8 + 2 + 12 * len(tags) + 4
    long = {tag: _values(order, kind, values) for tag, kind, values in tags}
    behind = start + sum(len(raw) for raw in long.values() if len(raw) > 4)
    places = [behind + sum(map(len, strips[:number])) for number in range(len(strips))]
    long[273] = _values(order, _LONG, places)
    entries, heap = b"", b""
    for tag, kind, values in tags:
        raw = long[tag]
        value = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", start + len(heap))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + value
        heap += raw if len(raw) > 4 else b""
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return header + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + heap + b"".join(strips)


def _values(order: str, kind: int, values: Sequence[int]) -> bytes:
    return struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)


def _packed_bits(samples: NDArray[Any], bits: int, order: str, fill_order: int) -> bytes:
    """Rows begin at whole bytes; samples of less than a byte, and of 12 bits, stand high bit first."""
    if bits in (8, 16, 32, 64):
        raw = samples.astype(f"{order}{samples.dtype.kind}{bits // 8}").tobytes()
    else:
        rows = samples.reshape(len(samples), -1)
        each = (rows[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
        raw = np.packbits(each.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
    if fill_order == 2:
        table = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
        raw = raw.translate(table)
    return raw
