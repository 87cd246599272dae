"""Image formats, recognised by their first bytes, and the libraries that open them."""

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
"""Formats that can be allowed, by Pillow's names; HEIF includes .heic."""

SUFFIXES: Final = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".apng", ".png", ".tif", ".tiff", ".webp"),
    }
)
"""Suffixes of these formats in lower case, including formats that need an extra."""

EXTRA: Final = "heif"
"""Extra of this package for HEIC and AVIF."""

_CONTAINER: Final = frozenset({"AVIF", "HEIF"})
"""Formats recognised by the brands in their first box."""
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LONGEST_BRANDS: Final = 256
_PADDING: Final = 63
"""Pixels by which a coded side may exceed the picture: it is a multiple of the block size, and cropped."""


def open_image(data: bytes, name: str, formats: Sequence[str], max_pixels: int) -> Image.Image:
    """Open an image; only its header is read.

    Args:
        formats: allowed ones of `FORMATS`; no other decoder receives the bytes.
        max_pixels: largest allowed width x height.

    Raises:
        ImageRejected: `bomb`, `pointer` (of Git LFS), `extra` (the format needs an extra), `format` (not an image of an
            allowed format), `broken`.
        Exception: anything that Pillow raises on damaged bytes.
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
            f"{name} is a TIFF with an unsupported layout ({layout}); save it as 8-bit RGB"
            if layout
            else f"{name} is not an image of the allowed formats ({', '.join(allowed)})",
        ) from None


def _open_heif(data: bytes, name: str) -> Image.Image:
    """The primary image of a HEIC file. libheif turns it upright; the format is not registered with Pillow."""
    try:
        heif: Any = importlib.import_module("pi_heif")
    except ImportError:
        raise _lacking(name, "HEIC") from None
    heif.options.DECODE_THREADS = 1  # photos are decoded in parallel, and thread stacks count as memory of a worker
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
    """Decode each AVIF in one thread: in worker processes, thread stacks count as memory. HEIC always is."""
    try:
        avif: Any = importlib.import_module("PIL.AvifImagePlugin")
    except ImportError:
        return
    avif.DEFAULT_MAX_THREADS = 1


def _lacking(name: str, kind: str) -> ImageRejected:
    return ImageRejected(
        "extra", f"{name} is a photo in {kind} format; to open it: pip install 'milvus-fghash[{EXTRA}]'"
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
    """Check the size of each image in a container: a small picture may be cropped from a huge one."""
    for start, end in _boxes(data, b"meta"):
        at = data.find(b"ispe", start, end)
        while at >= 0:
            width, height = (int.from_bytes(data[at + skip : at + skip + 4]) for skip in (8, 12))
            if max(0, width - _PADDING) * max(0, height - _PADDING) > max_pixels:
                raise _bomb(name, width, height, max_pixels)
            at = data.find(b"ispe", at + 4, end)


def _boxes(data: bytes, kind: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the outermost boxes of a kind."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(data[at + 8 : at + 16])
        end = at + size if size else len(data)
        if end < at + 8:
            return
        if data[at + 4 : at + 8] == kind:
            yield at, min(end, len(data))
        at = end
