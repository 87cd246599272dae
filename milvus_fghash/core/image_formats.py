"""Which formats of images there are, by their names and their first bytes, and what opens each."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from milvus_fghash.core.lfs_pointer import is_pointer, pointer_message
from milvus_fghash.core.tiff_layouts import layout_of
from milvus_fghash.errors import ImageRejected

FORMATS: Final = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Image formats that can be allowed, by Pillow's names; HEIF is that of .heic too."""

SUFFIXES: Final = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".apng", ".png", ".tif", ".tiff", ".webp"),
    }
)
"""File name endings, in lower case, of those formats; also of those that only an extra can open."""

EXTRA: Final = "heif"
"""Part of this package that brings what opens HEIC and AVIF."""

_CONTAINER: Final = frozenset({"AVIF", "HEIF"})
"""Formats that are told apart by the brands in their first box."""
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LONGEST_BRANDS: Final = 256
_PADDING: Final = 63
"""Pixels that a coded side may have more than the picture: it is a multiple of a block, and cropped."""


def open_image(data: bytes, name: str, formats: Sequence[str], max_pixels: int) -> Image.Image:
    """An image whose header is read, not its pixels.

    Args:
        formats: of `FORMATS`; no decoder of another one sees the bytes.
        max_pixels: width x height that may be decoded.

    Raises:
        ImageRejected: `bomb`, `pointer` (of Git LFS), `extra` (what opens the format is not installed), `format` (no
            image, or of a kind that is not taken), `broken`.
        Exception: whatever else Pillow raises on damaged bytes.
    """
    if is_pointer(data):
        raise ImageRejected("pointer", pointer_message(name))
    kind = _container(data)
    if kind and kind in formats:
        _reject_hidden_size(data, name, max_pixels)
        image = _open_heif(data, name) if kind == "HEIF" else _open_avif(data, name)
    else:
        image = _open(data, name, [one for one in formats if one not in _CONTAINER], formats)
    width, height = image.size
    if width * height > max_pixels:
        raise _bomb(name, width, height, max_pixels)
    return image


def _open(data: bytes, name: str, formats: Sequence[str], allowed: Sequence[str]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=list(formats))
    except UnidentifiedImageError:
        layout = layout_of(data) if "TIFF" in formats and data.startswith(_TIFF_STARTS) else ""
        raise ImageRejected(
            "format",
            f"{name} is a TIFF of a layout that is not read ({layout}); save it as RGB of 8 bits"
            if layout
            else f"{name} is no image, or none of the allowed formats ({', '.join(allowed)})",
        ) from None


def _open_heif(data: bytes, name: str) -> Image.Image:
    """The primary image of a HEIC file. libheif turns it upright, and Pillow is not made to know the format."""
    try:
        heif: Any = importlib.import_module("pi_heif")
    except ImportError:
        raise _lacking(name, "HEIC") from None
    heif.options.DECODE_THREADS = 1  # many photos are decoded side by side; and stacks count as memory of a worker
    heif.options.THUMBNAILS = heif.options.DEPTH_IMAGES = heif.options.AUX_IMAGES = False
    image: Image.Image = heif.HeifImageFile(io.BytesIO(data))
    return image


def _open_avif(data: bytes, name: str) -> Image.Image:
    try:
        avif: Any = importlib.import_module("PIL.AvifImagePlugin")  # since Pillow 11.3
    except ImportError:
        raise _lacking(name, "AVIF") from None
    if not avif.SUPPORTED:
        raise _lacking(name, "AVIF")
    try:
        return Image.open(io.BytesIO(data), formats=["AVIF"])
    except UnidentifiedImageError:
        raise ImageRejected("broken", f"{name} is an AVIF whose header cannot be read. Is it complete?") from None


def use_one_thread() -> None:
    """Have each AVIF decoded by one thread: for a process of many that decode, whose threads' stacks count as memory.

    HEIC always is.
    """
    try:
        avif: Any = importlib.import_module("PIL.AvifImagePlugin")
    except ImportError:
        return
    avif.DEFAULT_MAX_THREADS = 1


def _lacking(name: str, kind: str) -> ImageRejected:
    return ImageRejected(
        "extra", f"{name} is a photo in the format {kind}; to open it: pip install 'milvus-fghash[{EXTRA}]'"
    )


def _bomb(name: str, width: int, height: int, max_pixels: int) -> ImageRejected:
    return ImageRejected("bomb", f"{name} has {width} x {height} pixels, more than the allowed {max_pixels:,}")


def _container(data: bytes) -> str:
    """The format of an ISO container by its brands; "" for every other file."""
    if data[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(data[:4]), _LONGEST_BRANDS, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else ""


def _reject_hidden_size(data: bytes, name: str, max_pixels: int) -> None:
    """A container says the size of each image in it, and the one that is shown may be a small part of a giant one."""
    for start, end in _boxes(data, b"meta"):
        at = data.find(b"ispe", start, end)
        while at >= 0:
            width, height = (int.from_bytes(data[at + skip : at + skip + 4]) for skip in (8, 12))
            if max(0, width - _PADDING) * max(0, height - _PADDING) > max_pixels:
                raise _bomb(name, width, height, max_pixels)
            at = data.find(b"ispe", at + 4, end)


def _boxes(data: bytes, kind: bytes) -> Iterator[tuple[int, int]]:
    """First and last place of the outermost boxes of a kind."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:  # a longer number follows
            size = int.from_bytes(data[at + 8 : at + 16])
        end = at + size if size else len(data)
        if end < at + 8:
            return
        if data[at + 4 : at + 8] == kind:
            yield at, min(end, len(data))
        at = end
