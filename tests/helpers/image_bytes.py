"""Images as the bytes of files, and what `open_rgb` makes of them, for tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core.images import Limits, open_rgb
from milvus_fghash.errors import ImageRejected

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    if file_format == "HEIF":
        import pillow_heif  # pi-heif, which the package uses, writes none

        pillow_heif.register_heif_opener()
        if isinstance(exif := options.get("exif"), Image.Exif):
            options["exif"] = exif.tobytes()  # of an object it takes no notice
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def turned_by(orientation: int) -> Image.Exif:
    """EXIF that says how a viewer is to turn the image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    image = open_rgb(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason_of(source: Path | bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageRejected) as caught:
        open_rgb(source, limits or Limits())
    assert "\n" not in str(caught.value)
    return caught.value.reason


def grey(value: int) -> bytes:
    return encode(Image.new("RGB", (9, 9), (value, value, value)))
