"""Perceptual hash of a photo: 64 bits that are robust to saving, resizing and brightening, and sensitive to colour.

34 bits are a DCT hash ("pHash"): the lowest frequencies of the photo in 32 x 32 grey pixels, each a bit that tells
whether it exceeds their median. Such a hash ignores colour, often the only difference between products. So 30 bits are
thermometer codes of colour: how red, green and blue the photo is overall, and in its centre relative to its edges.

Kept although `imagehash` exists: it would add SciPy and PyWavelets (150 MB) to every installation.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core.jpeg_reduced import picture_of

SIDE: Final = 32
"""Side of the picture that is transformed, in pixels."""
BITS: Final = 64
MIN_CONTRAST: Final = 2.0
"""Standard deviation in grey levels below which a picture is blank: its bits would be noise."""
NEUTRAL_CHROMA: Final = 2.0
"""Chroma, of 255, up to which pixels have little weight: compression gives grey photos some."""
MAX_COPY_DISTANCE: Final = 3
"""Largest distance in bits at which two photos count as copies; docs/duplicates.md has the error rates."""
NO_HASH: Final = 0
"""Stands for a missing hash. No photo has it: of three colour shares that add up to 0, one is not negative."""

Pixels = NDArray[np.float64]

_LOWEST: Final = 8
_COSINES: Final[Pixels] = np.cos(np.pi / SIDE * np.outer(np.arange(_LOWEST), np.arange(SIDE) + 0.5))
"""(8, 32): DCT of type 2."""
_OF_LIGHT: Final = sorted(
    ((down, across) for down in range(_LOWEST) for across in range(_LOWEST)),
    key=lambda at: (sum(at), max(at), at),
)[1:35]
"""Frequencies, the lowest first; without the mean, which is the brightness."""
_LUMA: Final = np.array([0.299, 0.587, 0.114])
_CHROMA: Final = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]]).T
"""Cb and Cr of JPEG, from RGB."""
_PRIMARIES: Final[Pixels] = np.stack([turn(np.radians([105, 225, 345])) for turn in (np.cos, np.sin)])
"""(2, 3): red, green and blue in the plane of Cb and Cr, moved slightly to be equally far apart."""
_SHARES: Final = np.array([-0.7, -0.42, -0.09, 0.09, 0.42, 0.7])
"""Thresholds of a colour in the whole picture. A rotating hue crosses one every 10 degrees."""
_SHIFTS: Final = np.array([-0.06, 0.06])
"""Thresholds of a colour in the centre of the picture relative to its edges."""
_MASK: Final = 2**BITS - 1
_PLACES: Final = 1 << np.arange(BITS - 1, -1, -1, dtype=np.uint64)


def perceptual_hash(image: Image.Image) -> int:
    """The hash of the whole picture, before any crop, as a signed 64-bit integer; `NO_HASH` for a blank picture.

    Args:
        image: upright RGB, as `images.open_rgb` returns it, at a reduced scale or not.
    """
    # HAMMING in two steps takes a quarter of the time of LANCZOS, and is as robust to decoding at another scale.
    small = image.resize((SIDE, SIDE), Image.Resampling.HAMMING, box=picture_of(image).box, reducing_gap=2.5)
    pixels = np.asarray(small, np.float64)
    light = pixels @ _LUMA
    shapes = _light_bits(light)
    if light.std() < MIN_CONTRAST or not shapes.any():  # fine patterns have no low frequencies
        return NO_HASH
    bits = np.concatenate([shapes, _colour_bits(pixels @ _CHROMA)])
    return int(_PLACES[bits].sum().astype(np.int64))


def _light_bits(light: Pixels) -> NDArray[np.bool_]:
    frequencies = np.round(_COSINES @ light @ _COSINES.T)  # rounded, so that zeros are not noise
    lowest = frequencies[tuple(np.transpose(_OF_LIGHT))]
    return np.asarray(lowest > np.median(lowest))


def _colour_bits(chroma: Pixels) -> NDArray[np.bool_]:
    """Bits of colour, from (32, 32, 2) Cb and Cr.

    Pixels are weighted by their chroma, and the sums are relative to the total: a small shirt on white has the bits of
    a large one, and a copy with more contrast those of its original.
    """
    strength = np.hypot(chroma[..., 0], chroma[..., 1])
    in_all = float((strength * (strength + NEUTRAL_CHROMA)).sum()) or 1.0
    weighted = chroma * strength[..., None] / in_all
    columns, rows = (weighted.sum(axis) @ _PRIMARIES for axis in (0, 1))  # (32, 3) each
    shares = rows.sum(axis=0)
    shifts = np.sqrt(2) * np.concatenate([_COSINES[2] @ columns, _COSINES[2] @ rows])
    return np.concatenate([(of[:, None] > steps).ravel() for of, steps in ((shares, _SHARES), (shifts, _SHIFTS))])


def phash_distance(one: int, other: int) -> int | None:
    """Number of bits in which two perceptual hashes differ; None where one is missing.

    >>> phash_distance(-1, 1), phash_distance(5, 4), phash_distance(NO_HASH, 5)
    (63, 1, None)
    """
    if NO_HASH in (one, other):
        return None
    return ((one ^ other) & _MASK).bit_count()


def phash_to_hex(value: int) -> str:
    """16 hexadecimal digits, as other programs write it; "" for `NO_HASH`.

    >>> phash_to_hex(-1), phash_to_hex(255), phash_to_hex(NO_HASH)
    ('ffffffffffffffff', '00000000000000ff', '')
    """
    return "" if value == NO_HASH else f"{value & _MASK:016x}"


def phash_from_hex(text: str) -> int:
    """The inverse of `phash_to_hex`."""
    value = int(text or "0", 16)
    return value - 2**BITS if value >= 2 ** (BITS - 1) else value
