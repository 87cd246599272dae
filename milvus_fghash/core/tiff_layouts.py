"""TIFF pixel layouts: which ones Pillow reads correctly, and which of the others are corrected or rejected."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import II, MM, OPEN_INFO, ImageFileDirectory_v2, TiffImageFile

from milvus_fghash.errors import ImageRejected

_BITS, _PHOTOMETRIC, _PLANES, _PALETTE, _EXTRA, _FORMAT, _SUBSAMPLING = 258, 262, 284, 320, 338, 339, 530
"""Tags."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _YCBCR = 0, 1, 6
_INTERPRETATIONS: Final = {
    0: "white is zero",
    1: "black is zero",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "inks",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "sensor data",
    34892: "linear raw",
}
_FAX: Final = {"tiff_ccitt", "group3", "group4", "tiff_raw_16"}
"""Compressions of fax machines, in which white is zero unless the file says otherwise."""
_UNSIGNED, _SIGNED = 1, 2
_ASSOCIATED = 1
"""Premultiplied alpha."""

# Pillow decodes these, but its table lacks the entries; there is no other way to add them.
for _order in (II, MM):
    for _photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        OPEN_INFO.setdefault((_order, _photometric, (_UNSIGNED,), 1, (12,), ()), ("I;16", "I;12"))
OPEN_INFO.setdefault((MM, _WHITE_IS_ZERO, (_UNSIGNED,), 1, (16,), ()), ("I;16B", "I;16B"))


def check_layout(image: Image.Image, name: str) -> None:
    """Reject a TIFF that Pillow would decode to wrong pixels; every other image passes.

    Args:
        image: open, whether loaded or not.

    Raises:
        ImageRejected: `format`.
    """
    if not isinstance(image, TiffImageFile):
        return
    tags, photometric = image.tag_v2, image.tag_v2.get(_PHOTOMETRIC)
    compression = image.info.get("compression")
    if photometric is None and image.mode in {"1", "L", "I;16", "I;16B"} and compression not in _FAX:
        raise ImageRejected(
            "format", f"{name} does not say whether 0 is black or white (TIFF PhotometricInterpretation)"
        )
    if tags.get(_PLANES) == 2 and not _planes_are_read(image):
        raise ImageRejected(
            "format",
            f"{name} is a TIFF with planar samples ({described(tags)}), which is not supported; save it with "
            "interleaved samples",
        )
    if photometric == _YCBCR and compression == "raw" and tags.get(_SUBSAMPLING, (1, 1)) != (1, 1):
        raise ImageRejected(
            "format", f"{name} is an uncompressed TIFF of subsampled YCbCr, which is not supported; save it as RGB"
        )


def _planes_are_read(image: TiffImageFile) -> bool:
    """Whether Pillow reads planar samples correctly.

    It reads uncompressed ones as 8-bit colour without further samples, and loses the alpha of grey and palettes.
    """
    if image.mode in {"LA", "La", "PA"}:
        return False
    if image.info.get("compression") != "raw":
        return True
    tags = image.tag_v2
    bits, photometric = set(tags.get(_BITS, (1,))), tags.get(_PHOTOMETRIC)
    if photometric in {_WHITE_IS_ZERO, _YCBCR} or tags.get(_EXTRA) == (_ASSOCIATED,):
        return False
    return bits == {8} or (bits == {1} and photometric == _BLACK_IS_ZERO)


def white_is_zero(image: Image.Image) -> bool:
    """Whether 0 is white in pixels decoded by Pillow, which inverts those of up to 8 bits itself."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def highest_value(image: Image.Image) -> int:
    """The value of the brightest grey in pixels of more than 8 bits."""
    twelve = isinstance(image, TiffImageFile) and image.tag_v2.get(_BITS) == (12,)
    return 0xFFF if twelve else 0xFFFF


def is_signed(image: Image.Image) -> bool:
    """Whether bytes are signed, which Pillow ignores."""
    return isinstance(image, TiffImageFile) and image.mode == "L" and _SIGNED in image.tag_v2.get(_FORMAT, ())


def with_its_palette(image: Image.Image) -> Image.Image:
    """The image with correct colours if its palette has 8-bit values in 16-bit fields, as some programs write it.

    libtiff, and so most viewers, corrects such palettes too. Other images are returned unchanged.

    Args:
        image: loaded.
    """
    if not isinstance(image, TiffImageFile) or image.mode not in {"P", "PA"}:
        return image
    values = np.array(image.tag_v2.get(_PALETTE, ()))
    if not values.size or values.max() > 0xFF or values.size % 3:
        return image
    repaired = image.copy()
    repaired.putpalette(values.reshape(3, -1).T.astype(np.uint8).tobytes())
    return repaired


def layout_of(data: bytes) -> str:
    """The pixel layout of a TIFF in words; "" when it cannot be read."""
    try:
        tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])  # 43: BigTIFF, with a longer header
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return described(tags) if _BITS in tags else ""
    except Exception:  # like the decoders, the parser may raise anything on hostile bytes
        return ""


def described(tags: Any) -> str:
    """The layout given by tags, such as "RGB of 16, 16, 16 bits"."""
    photometric = tags.get(_PHOTOMETRIC)
    meaning = _INTERPRETATIONS.get(photometric, f"photometric interpretation {photometric}")
    bits = ", ".join(str(bits) for bits in tags.get(_BITS, (1,))[:8])
    kind = {_UNSIGNED: "", _SIGNED: " signed", 3: " floating-point"}.get(tags.get(_FORMAT, (1,))[0], " unusual")
    return f"{meaning} of {bits}{kind} bits"
