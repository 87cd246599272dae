"""Files written byte by byte, for what Pillow does not write: interlaced PNG, tiled TIFF, RLE, lies in headers."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tests.helpers.png_bytes import chunk

TILE = 16


def png(width: int, height: int, packed: bytes, *, depth: int = 8, more: bytes = b"", interlace: int = 0) -> bytes:
    """Grey, of packed rows; ``more`` are chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def interlaced_png(image: Image.Image) -> bytes:
    """Grey, in the seven passes of Adam7."""
    grey = np.asarray(image.convert("L"))
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for top, left, down, across in passes for row in grey[top::down, left::across]]
    return png(image.width, image.height, zlib.compress(b"".join(rows)), interlace=1)


def tiff(tags: Mapping[int, Sequence[int]], pixels: bytes = b"", *, again: bool = False) -> bytes:
    """Little-endian, of one directory of tags and numbers; the pixels lie at byte 8.

    Args:
        again: the directory names itself as the next one.
    """
    place = 8 + len(pixels)
    behind = place + 6 + 12 * len(tags)
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        raw = struct.pack(f"<{len(numbers)}I", *numbers)
        entries += struct.pack("<HHI", tag, 4, len(numbers))
        entries += raw if len(raw) == 4 else struct.pack("<I", behind + len(values))
        values += raw if len(raw) != 4 else b""
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", place if again else 0)
    return struct.pack("<2sHI", b"II", 42, place) + pixels + directory + values


def grey_tags(width: int, height: int) -> dict[int, Sequence[int]]:
    """Tags of a TIFF of 8 bits a pixel, not packed, but for those that say where the pixels are."""
    return {256: [width], 257: [height], 258: [8], 259: [1], 262: [1]}


def tiled_tiff(image: Image.Image) -> bytes:
    """Grey; the tiles reach beyond the picture at two sides."""
    grey = np.asarray(image.convert("L"))
    padded = np.pad(grey, [(0, -side % TILE) for side in grey.shape])
    parts = [
        padded[top : top + TILE, left : left + TILE].tobytes()
        for top in range(0, padded.shape[0], TILE)
        for left in range(0, padded.shape[1], TILE)
    ]
    where = [8 + number * TILE * TILE for number in range(len(parts))]
    tags = {322: [TILE], 323: [TILE], 324: where, 325: [TILE * TILE] * len(parts)}
    return tiff({**grey_tags(image.width, image.height), **tags}, b"".join(parts))


def rle_bmp(image: Image.Image) -> bytes:
    """Grey, each pixel a run of one."""
    grey = np.asarray(image.convert("L"))
    runs = b"".join(b"".join(b"\1" + bytes([value]) for value in row) + b"\0\0" for row in grey[::-1]) + b"\0\1"
    palette = b"".join(bytes([value, value, value, 0]) for value in range(256))
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, image.width, image.height, 1, 8, 1, len(runs), 2835, 2835, 256, 256)
    return struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start) + info + palette + runs


def webp_on_canvas(width: int, height: int) -> bytes:
    """An animation of one small frame on a large canvas."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "WEBP", lossless=True)
    frame = stream.getvalue()[12:]
    placed = bytes(6) + struct.pack("<I", 7)[:3] * 2 + struct.pack("<I", 100)[:3] + b"\0"
    canvas = b"\2\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    parts = ((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", placed + frame))
    content = b"WEBP" + b"".join(name + struct.pack("<I", len(raw)) + raw for name, raw in parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def tar(members: Mapping[str, bytes]) -> bytes:
    """An archive, not packed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return stream.getvalue()
