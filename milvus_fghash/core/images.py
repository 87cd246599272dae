"""Photo file -> RGB pixels, for training, the export check, evaluation and serving alike.

`open_rgb` decodes a file by the `RULES`, `prepare` resizes and crops it for the network.
"""

from __future__ import annotations

import errno
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from milvus_fghash.core.bounded_file import read_bounded
from milvus_fghash.core.image_formats import FORMATS, open_image
from milvus_fghash.core.jpeg_reduced import MARGIN, picture_of, reduce, turn_picture
from milvus_fghash.core.pixel_modes import to_rgb
from milvus_fghash.errors import ImageRejected, nearest, one_line

RULES: Final[dict[str, str]] = {
    "exif": "the EXIF orientation is applied",
    "colour": "converted to RGB before resizing; colour profiles are ignored",
    "grey": "the grey value in all three channels",
    "palette": "looked up before resizing",
    "cmyk": "Pillow's conversion without a profile; Adobe's inverted JPEGs are turned back first",
    "alpha": "composited on white",
    "16-bit": "grey divided by 257 and rounded to nearest; colour as Pillow reduces it, by its high bytes",
    "tiff": "12-bit grey stretched to the whole range; where white is zero, turned; a palette of 8 bits as it is",
    "animation": "first frame; of a HEIC file the primary image",
    "scale": f"JPEG at 1/2, 1/4 or 1/8 by libjpeg, where {MARGIN} x `resize` are left; placed as with all pixels",
    "resize": "Pillow, antialiased; shorter side to `resize`, the longer side rounded down; then the centre crop",
}
"""How unusual images are decoded. Part of every bundle, hence the fixed texts."""

_ORIENTATION_TAG = 0x0112
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Keys of `Image.info` that may hold an orientation."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_WIDEST = 8
"""Aspect ratio above which only the crop is resized. Below, the pixels equal torchvision's bit for bit."""

MAX_SIDE: Final = 2**31
"""Longer than any side of an image that can be opened."""

_CUT_OFF = re.compile("truncated|unexpected end of file", re.IGNORECASE)
"""In messages of Pillow and libheif about truncated images."""

_one_at_a_time = threading.Lock()


class Limits(BaseModel):
    """Limits of photos; files beyond them are rejected before they are decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: Annotated[int, Field(gt=0, le=178_000_000)] = 100_000_000
    """Width x height in the file's header. Pillow itself rejects above 178,956,970."""
    max_bytes: Annotated[int, Field(gt=0)] = 100_000_000
    """Size of the file in bytes."""
    formats: tuple[str, ...] = FORMATS

    @field_validator("formats")
    @classmethod
    def _formats_must_be_known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for name in formats:
            if name not in FORMATS:
                raise ValueError(f"image format {name!r} cannot be allowed. {nearest(name, FORMATS)}")
        if not formats:
            raise ValueError("at least one image format must be allowed")
        return formats


DEFAULT_LIMITS: Final = Limits()


class Preprocessing(BaseModel):
    """From a decoded RGB photo to the pixels a network takes. Part of every bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=8, le=2048)] = 224
    """Side of the square crop the network sees, in pixels."""
    resize: Annotated[int, Field(ge=8, le=4096)] = 256
    """Length of the shorter side before the centre crop (or of both sides with `stretch`)."""
    resize_mode: Literal["shorter_side", "stretch"] = "shorter_side"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    scale: Literal["reduced", "whole"] = "reduced"
    """Whether large JPEG files are decoded at a reduced scale, see the rule "scale"."""

    @model_validator(mode="after")
    def _crop_must_fit(self) -> Self:
        if self.resize < self.size:
            raise ValueError(f"resize must be at least size ({self.size}), or the crop would not fit")
        return self

    @property
    def min_decoded_side(self) -> int:
        """Shortest allowed side after decoding at a reduced scale, in pixels."""
        return MARGIN * self.resize if self.scale == "reduced" else MAX_SIDE


def load(source: Path | bytes, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """A photo as the network sees it: (size, size, 3) RGB.

    Raises:
        ImageRejected: as `open_rgb`.
    """
    return prepare(open_rgb(source, limits, preprocessing), preprocessing)


def open_rgb(
    source: Path | bytes, limits: Limits = DEFAULT_LIMITS, preprocessing: Preprocessing | None = None
) -> Image.Image:
    """Decode a file, or its bytes, to an upright image of mode RGB by the `RULES`.

    Args:
        preprocessing: that of the later `prepare`, by which a large JPEG may be decoded at a reduced scale. None:
            decode every pixel.

    Raises:
        ImageRejected: `missing` (no such file), `empty` (zero bytes), `too-large` (more than ``max_bytes``), `bomb`
            (more than ``max_pixels``), `format` (not an image of an allowed format), `extra` (the format needs an
            extra), `pointer` (of Git LFS), `truncated`, `broken` (anything else: damaged data, a folder, a file
            without permission).
    """
    name = "the image" if isinstance(source, bytes) else _shown(source)
    data = _read(source, name, limits.max_bytes)
    try:
        return _decode(data, name, limits, preprocessing)
    except ImageRejected:
        raise
    except Image.DecompressionBombError as error:
        raise ImageRejected("bomb", f"{name} is rejected: {error}") from None
    except Exception as error:  # on hostile bytes, Pillow's decoders raise anything, even SyntaxError
        detail = one_line(error) or type(error).__name__
        reason = "truncated" if _CUT_OFF.search(detail) else "broken"
        raise ImageRejected(reason, f"{name} cannot be decoded: {detail}. Is it complete?") from None


def read_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a photo file, for callers that need more than its pixels; `open_rgb` accepts them.

    Raises:
        ImageRejected: `missing`, `empty`, `too-large` or `broken`, as `open_rgb`.
    """
    return _read(path, _shown(path), limits.max_bytes)


def upright_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """An open Pillow image, converted by the `RULES`: upright, of mode RGB.

    Raises:
        ImageRejected: `format`, for an unsupported pixel mode.
    """
    rgb = to_rgb(image, name)
    orientation = _orientation(
        image
    )  # after loading: PNG may have its EXIF after the pixels, and Pillow turns a TIFF itself
    if orientation not in _TRANSPOSED:
        return rgb
    upright = rgb.transpose(_TRANSPOSED[orientation])
    turn_picture(upright, orientation)
    for key in _ORIENTED:
        upright.info.pop(key, None)
    return upright


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize an RGB image and cut out its centre: (size, size, 3).

    Equals torchvision's Resize (on Pillow images) and CenterCrop bit for bit up to an aspect ratio of 8, unless the
    picture ends inside a pixel after decoding at a reduced scale. Longer images are resized only where the crop lies,
    which bounds the memory. Pillow may then take the two directions in another order and round differently in between.
    """
    crop, resize, method = preprocessing.size, preprocessing.resize, _FILTERS[preprocessing.interpolation]
    picture = picture_of(image)
    if preprocessing.resize_mode == "stretch":
        width = height = resize
    else:
        shorter = min(picture.size)
        width, height = (int(resize * side / shorter) for side in picture.size)
    left, top = round((width - crop) / 2), round((height - crop) / 2)  # half to even, as torchvision
    if max(width, height) > _WIDEST * resize:
        x, y, right, bottom = picture.box
        across, down = (right - x) / width, (bottom - y) / height
        box = (x + left * across, y + top * down, x + (left + crop) * across, y + (top + crop) * down)
        return np.array(image.resize((crop, crop), method, box=box))
    return np.array(image.resize((width, height), method, box=picture.box).crop((left, top, left + crop, top + crop)))


def _shown(path: Path) -> str:
    """A path for messages, also with bytes that are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()


def _read(source: Path | bytes, name: str, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = read_bounded(source, max_bytes)
        except FileNotFoundError:
            raise ImageRejected("missing", f"{name} does not exist") from None
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise _too_large(name, max_bytes) from None
            raise ImageRejected("broken", f"{name} cannot be read: {error.strerror}") from None
        except ValueError as error:  # a NUL in the path, or half a surrogate pair
            raise ImageRejected("broken", f"{name} cannot be read: {error}") from None
    if not data:
        raise ImageRejected("empty", f"{name} has zero bytes")
    if len(data) > max_bytes:
        raise _too_large(name, max_bytes)
    return data


def _too_large(name: str, max_bytes: int) -> ImageRejected:
    return ImageRejected("too-large", f"{name} has more than the allowed {max_bytes:,} bytes")


def _decode(data: bytes, name: str, limits: Limits, preprocessing: Preprocessing | None) -> Image.Image:
    with _without_warnings():
        image = open_image(data, name, limits.formats, limits.max_pixels)
        if preprocessing:
            reduce(image, data, preprocessing.min_decoded_side)
    return upright_rgb(image, name)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress DecompressionBombWarning: `Limits` apply. The lock is needed because filters are global."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 (upright) where the EXIF block is missing or damaged, as the pixels may still be good."""
    try:
        with _without_warnings():
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # like the decoders, the parser may raise anything on hostile bytes
        return 1
