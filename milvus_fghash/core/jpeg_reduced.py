"""Decoding JPEG at a reduced scale: libjpeg skips detail that resizing would remove, and with it most of the work."""

from __future__ import annotations

from typing import Final, NamedTuple

from PIL import Image

MARGIN: Final = 2
"""The shorter side after decoding is at least this many times the side that it is resized to.

With 3, half as many code bits differ from those of full-scale decoding, but photos of 2000 x 1500 are not decoded
faster (`benchmarks/reduced_scale.py`). With 2, as many bits differ as after saving a photo again at quality 80.
"""

_KEY = "picture"
"""Key in `Image.info`, which Pillow preserves when an image is converted or transposed."""
_COSINE = {0xC0, 0xC1, 0xC2}
"""Frame markers of baseline, extended and progressive JPEG. Lossless JPEG (0xC3) has no reduced scale."""


class Picture(NamedTuple):
    """How the pixels of a decoded image relate to those in its file."""

    size: tuple[int, int]
    """Width and height in the file."""
    pixels: tuple[int, int]
    """Width and height as decoded."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the picture in decoded pixels. Where the scale does not divide a side, the picture
    ends inside the last pixel."""

    def turned(self, orientation: int) -> Picture:
        """The same after turning the image upright from an EXIF orientation, 1 to 8."""
        (left, top, right, bottom), (across, down), size = self.box, self.pixels, self.size
        if orientation >= 5:
            left, top, right, bottom, across, down, size = top, left, bottom, right, down, across, size[::-1]
        if orientation in (2, 3, 6, 7):
            left, right = across - right, across - left
        if orientation in (3, 4, 7, 8):
            top, bottom = down - bottom, down - top
        return Picture(size, (across, down), (left, top, right, bottom))


def picture_of(image: Image.Image) -> Picture:
    """The `Picture` of an image; after a crop or a resize, that of an ordinary image."""
    picture = image.info.get(_KEY)
    if isinstance(picture, Picture) and picture.pixels == image.size:
        return picture
    return Picture(image.size, image.size, (0, 0, *image.size))


def turn_picture(image: Image.Image, orientation: int) -> None:
    """Update the `Picture` of an image that was turned upright from an EXIF orientation."""
    picture = image.info.get(_KEY)
    if isinstance(picture, Picture):
        image.info[_KEY] = picture.turned(orientation)


def reduce(image: Image.Image, data: bytes, min_side: int) -> None:
    """Make Pillow decode a JPEG at 1/2, 1/4 or 1/8, so that its shorter side keeps at least ``min_side`` pixels.

    Smaller images, lossless JPEG and other formats are left unchanged.

    Args:
        image: open, not loaded yet. Its size changes; `picture_of` has the original one.
        data: the bytes of its file.
        min_side: in pixels.
    """
    if image.format in {"JPEG", "MPO"} and _frame(data) in _COSINE:
        width, height = image.size
        for scale in (8, 4, 2):
            if min(width, height) >= scale * min_side:
                drawn = image.draft(None, (width // scale, height // scale))
                if drawn:
                    image.info[_KEY] = Picture((width, height), image.size, drawn[1])
                return


def _frame(data: bytes) -> int | None:
    """The frame marker of a JPEG; None where the file is not a plain sequence of segments."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:
            return None
        if marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None
