"""JPEG at a reduced scale: libjpeg leaves out detail that would be resized away, and with it most of the work."""

from __future__ import annotations

from typing import Final, NamedTuple

from PIL import Image

MARGIN: Final = 2
"""The shorter side that is left is at least so many times as long as the side it is resized to.

With 3, about half as many bits of the codes differ from those of all pixels, and photos of 2000 x 1500 gain nothing
(`benchmarks/reduced_scale.py`). With 2 there are as many as saving a photo again at quality 80 changes.
"""

_KEY = "picture"
"""Of `Image.info`, which Pillow hands on as an image is converted and turned."""
_COSINE = {0xC0, 0xC1, 0xC2}
"""Frames of baseline, extended and progressive JPEG. Lossless ones (0xC3) have no scale to be reduced."""


class Picture(NamedTuple):
    """What the pixels of a decoded image stand for."""

    size: tuple[int, int]
    """Width and height that the file says."""
    pixels: tuple[int, int]
    """Width and height as decoded."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the picture among the pixels. Where the scale does not divide a side, the last
    pixel stands for less than the others, and the picture ends inside it."""

    def turned(self, orientation: int) -> Picture:
        """After its image was turned upright from an EXIF orientation, 1 to 8."""
        (left, top, right, bottom), (across, down), size = self.box, self.pixels, self.size
        if orientation >= 5:
            left, top, right, bottom, across, down, size = top, left, bottom, right, down, across, size[::-1]
        if orientation in (2, 3, 6, 7):
            left, right = across - right, across - left
        if orientation in (3, 4, 7, 8):
            top, bottom = down - bottom, down - top
        return Picture(size, (across, down), (left, top, right, bottom))


def picture_of(image: Image.Image) -> Picture:
    """Of an image that `reduce` has seen, or any other; one that was cropped or resized since is any other."""
    picture = image.info.get(_KEY)
    if isinstance(picture, Picture) and picture.pixels == image.size:
        return picture
    return Picture(image.size, image.size, (0, 0, *image.size))


def turn_picture(image: Image.Image, orientation: int) -> None:
    """Note in an image that was turned upright from an EXIF orientation what became of the picture."""
    picture = image.info.get(_KEY)
    if isinstance(picture, Picture):
        image.info[_KEY] = picture.turned(orientation)


def reduce(image: Image.Image, data: bytes, least: int) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, so that its shorter side keeps at least ``least`` pixels.

    What is too small for that, a lossless JPEG and every other format are left as they are.

    Args:
        image: open, not loaded yet. Its size changes, and `picture_of` knows what it was.
        data: the bytes it is read from.
        least: pixels.
    """
    if image.format in {"JPEG", "MPO"} and _frame(data) in _COSINE:
        width, height = image.size
        for scale in (8, 4, 2):
            if min(width, height) >= scale * least:
                drawn = image.draft(None, (width // scale, height // scale))
                if drawn:
                    image.info[_KEY] = Picture((width, height), image.size, drawn[1])
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
