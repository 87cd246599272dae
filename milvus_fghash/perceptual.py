"""Perceptual hash of a photo: 64 bits that hardly change when it is saved again, resized, brightened or made grey.

It is the DCT hash ("pHash") of the field: of the photo in 32 x 32 grey pixels, the 8 x 8 lowest frequencies, each a bit
that says whether it lies above their median. The library `imagehash` computes it too, give or take a bit, but brings
SciPy and PyWavelets (150 MB) into every installation for one product of small matrices; hence these lines.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.jpeg_scale import picture_of

SIDE: Final = 32
"""Of the picture whose frequencies are looked at, in pixels."""
LOWEST: Final = 8
"""Frequencies in each direction."""
BITS: Final = LOWEST * LOWEST
FLAT: Final = 2.0
"""Standard deviation, in grey levels, of a picture that shows nothing: noise would decide its bits."""
ALIKE: Final = 6
"""Bits in which the hashes of two photos may differ for these to be taken for one picture: docs/duplicates.md has how
many copies and how many other pairs that are."""
UNKNOWN: Final = 0
"""The hash of a photo that has none, or of which it is not known."""

_COSINES: Final[NDArray[np.float64]] = np.cos(np.pi / SIDE * np.outer(np.arange(LOWEST), np.arange(SIDE) + 0.5))
"""(8, 32): DCT of type 2."""
_MASK: Final = 2**BITS - 1
_PLACES: Final = 1 << np.arange(BITS - 1, -1, -1, dtype=np.uint64)


def perceptual_hash(image: Image.Image) -> int:
    """Of the whole picture, before any crop, as a signed number of 64 bits; `UNKNOWN` where the picture is flat.

    Args:
        image: RGB and upright, as `images.open_rgb` gives it, at a reduced scale or not.
    """
    # HAMMING in two steps takes a quarter of the time of LANCZOS, and a photo that is decoded at another scale stays as
    # near to itself.
    grey = image.convert("L")
    small = grey.resize((SIDE, SIDE), Image.Resampling.HAMMING, box=picture_of(image).box, reducing_gap=2.5)
    pixels = np.asarray(small, np.float64)
    if pixels.std() < FLAT:
        return UNKNOWN
    frequencies = np.round(_COSINES @ pixels @ _COSINES.T)  # rounded, so that those that are 0 are no noise
    bits = (frequencies > np.median(frequencies)).reshape(-1)
    return int(_PLACES[bits].sum().astype(np.int64))


def phash_distance(one: int, other: int) -> int | None:
    """Number of bits in which two perceptual hashes differ; None where one of them is not known.

    >>> phash_distance(-1, 1), phash_distance(5, 4), phash_distance(UNKNOWN, 5)
    (63, 1, None)
    """
    if UNKNOWN in (one, other):
        return None
    return ((one ^ other) & _MASK).bit_count()


def phash_to_hex(value: int) -> str:
    """16 hexadecimal digits, as other programs write it; "" of `UNKNOWN`.

    >>> phash_to_hex(-1), phash_to_hex(255), phash_to_hex(UNKNOWN)
    ('ffffffffffffffff', '00000000000000ff', '')
    """
    return "" if value == UNKNOWN else f"{value & _MASK:016x}"


def phash_from_hex(text: str) -> int:
    """Turns `phash_to_hex` round."""
    value = int(text or "0", 16)
    return value - 2**BITS if value >= 2 ** (BITS - 1) else value
