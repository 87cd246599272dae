"""JPEG at a reduced scale: libjpeg leaves out detail that would be resized away, and with it most of the work."""

from __future__ import annotations

from typing import Final

from PIL import Image

MARGIN: Final = 2
"""The shorter side that is left is at least so many times as long as the side it is resized to.

With 3, about half as many bits of the codes differ from those of all pixels, and photos of 2000 x 1500 gain nothing
(`benchmarks/reduced_scale.py`). With 2 there are as many as saving a photo again at quality 80 changes.
"""

_COSINE = {0xC0, 0xC1, 0xC2}
"""Frames of baseline, extended and progressive JPEG. Lossless ones (0xC3) have no scale to be reduced."""


def reduce(image: Image.Image, data: bytes, least: int) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, so that its shorter side keeps at least ``least`` pixels.

    The scale divides both sides: a last pixel that stands for less than the others would shift the whole picture, and
    rounding the longer side of the resized photo another way shifts it by half a pixel. What is too small for that, a
    lossless JPEG and every other format are left as they are.

    Args:
        image: open, not loaded yet. Its size changes.
        data: the bytes it is read from.
        least: pixels.
    """
    if image.format in {"JPEG", "MPO"} and _frame(data) in _COSINE:
        width, height = image.size
        for scale in (8, 4, 2):
            if min(width, height) >= scale * least and width % scale == height % scale == 0:
                image.draft(None, (width // scale, height // scale))
                return


def _frame(data: bytes) -> int | None:
    """The marker that says how a JPEG is coded; None where the file is not of the plain form of segments."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:
            return None
        if marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None
