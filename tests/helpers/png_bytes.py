"""PNG files written by hand, for layouts of pixels that Pillow reads and cannot write."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GREY: Final = 0
RGB: Final = 2
PALETTE: Final = 3
GREY_ALPHA: Final = 4
RGB_ALPHA: Final = 6


def png(samples: NDArray[Any], bits: int, kind: int, transparent: bytes = b"", palette: bytes = b"") -> bytes:
    """(height, width, samples for each pixel) as the file holds them; ``transparent`` is the content of tRNS."""
    height, width, _ = samples.shape
    rows = samples.reshape(height, -1)
    each = (rows[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    packed = np.packbits(each.reshape(height, -1).astype(np.uint8), axis=1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", transparent), (b"IDAT", zlib.compress(unfiltered))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks if one[1]) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
