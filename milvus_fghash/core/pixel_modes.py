"""Pixels of any Pillow mode -> RGB, as a person would see them."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from milvus_fghash.core.tiff_layouts import check_layout, highest_value, is_signed, white_is_zero, with_its_palette
from milvus_fghash.errors import ImageRejected

_STEPS: Final = {"L;2": 85, "L;4": 17}
"""Layouts of grey PNG files -> step between values after Pillow has scaled them to 8 bits."""


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image of mode RGB: alpha on white, more than 8 bits reduced.

    Args:
        image: open; the function loads it.

    Raises:
        ImageRejected: `format`, for an unsupported kind of pixels.
        Exception: anything that Pillow raises on damaged bytes.
    """
    check_layout(image, name)
    transparent = _transparent(image)
    image.load()
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image, name)
    if image.mode in {"F", "LAB"}:
        kind = "floating-point values" if image.mode == "F" else "CIELab colours"
        raise ImageRejected("format", f"{name} has pixels of {kind}; save it as grey or RGB of 8 or 16 bits")
    if is_signed(image) and np.asarray(image).max() > 127:
        raise _beyond(name)
    image = with_its_palette(image)
    if transparent is not None:
        image = image.copy()
        image.info["transparency"] = transparent
    if image.mode == "La":
        image = image.convert("LA")  # the only conversion Pillow has
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")
    return image.convert("RGB")


def _transparent(image: Image.Image) -> int | tuple[int, ...] | None:
    """The transparent colour of a PNG, scaled like its pixels; Pillow keeps the value of the file.

    Args:
        image: not loaded yet; loading removes the pixel layout.
    """
    value = image.info.get("transparency")
    if not isinstance(image, PngImageFile) or not image.tile:
        return None
    layout = image.tile[0][3]
    if isinstance(value, int) and layout in _STEPS:
        return min(value * _STEPS[layout], 255)
    if isinstance(value, tuple) and layout == "RGB;16B":
        return tuple(part >> 8 for part in value)
    return None


def _from_16_bits(image: Image.Image, name: str) -> Image.Image:
    """Pillow's own conversion would clip everything above 255 to white."""
    values = np.asarray(image).astype(np.int32)
    top = highest_value(image)
    if values.min() < 0 or values.max() > top:
        raise _beyond(name)
    transparent = image.info.get("transparency")
    if white_is_zero(image):
        np.subtract(top, values, out=values)
    if isinstance(transparent, int):
        values[values == transparent] = top
    values *= 255
    values += top // 2
    values //= top
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _beyond(name: str) -> ImageRejected:
    return ImageRejected("format", f"{name} has grey values below 0 or beyond 16 bits; expected 0 to 65535")
