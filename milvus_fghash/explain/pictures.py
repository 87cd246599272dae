"""Pictures: a heat map over a photo, an erased region, photos with frames side by side. NumPy and Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from milvus_fghash.core.untrusted_text import printable
from milvus_fghash.explain.model import Heat, Pixels

RIGHT: Final = (26, 152, 80)
WRONG: Final = (215, 48, 39)
"""Frames of the nearest photos, of the query's class and of another."""
OUTLINE: Final = (230, 30, 30)
SCALE: Final = ((20, 11, 53), (120, 28, 109), (207, 68, 70), (251, 155, 6), (252, 255, 164))
"""Low to high in even steps; brightness always rises, so that it reads in grey and with any colour vision."""
TILE: Final = 128
"""Side of a photo in a montage, in pixels."""
FONT_SIZE: Final = 16
"""Height of the text in a montage, in pixels."""


def stretched(heat: NDArray[np.floating[Any]]) -> Heat:
    """Scaled to [0, 1]; a constant map gives zeros.

    >>> stretched(np.array([[1.0, 3.0]])), stretched(np.array([[2.0, 2.0]]))
    (array([[0., 1.]]), array([[0., 0.]]))
    """
    lowest, span = heat.min(), np.ptp(heat)
    return (heat - lowest) / span if span > 0 else np.zeros_like(heat)


def positive(heat: NDArray[np.floating[Any]]) -> Heat:
    """Values above 0 as fractions of the highest; zeros if there are none."""
    highest = heat.max()
    return np.maximum(heat, 0) / highest if highest > 0 else np.zeros_like(heat)


def overlay(photo: Pixels, heat: Heat) -> Pixels:
    """(size, size, 3): the photo in grey, tinted with the colours of ``heat``."""
    side = photo.shape[:2][::-1]
    smooth = Image.fromarray(np.asarray(heat, np.float32)).resize(side, Image.Resampling.BILINEAR)
    values = np.clip(np.asarray(smooth), 0, 1)
    steps = np.linspace(0, 1, len(SCALE))
    colours = np.stack([np.interp(values, steps, channel) for channel in zip(*SCALE, strict=True)], axis=2)
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float64)[..., None]
    return np.round(0.45 * grey + 0.55 * colours).astype(np.uint8)


def erased(photo: Pixels, kept: NDArray[np.bool_], fill: tuple[int, int, int]) -> Pixels:
    """The photo, its region that is not ``kept``, (size, size), filled and outlined."""
    picture = np.where(kept[..., None], photo, np.array(fill, np.uint8))
    inside = ~kept
    padded = np.pad(inside, 2)
    shrunk = inside.copy()
    for down in range(5):
        for across in range(5):
            shrunk &= padded[down : down + len(inside), across : across + inside.shape[1]]
    picture[inside & ~shrunk] = OUTLINE
    return picture.astype(np.uint8)


def montage(
    rows: Sequence[Sequence[tuple[Pixels, tuple[int, int, int] | None]]],
    first_apart: bool = False,
    names: Sequence[str] = (),
) -> Image.Image:
    """Photos side by side on white, each with a frame of a colour or none.

    Args:
        first_apart: leave a wider gap after the first photo of each row.
        names: written above the rows; empty: none. Letters that the font lacks are empty boxes.
    """
    gap, frame, font = 8, 5, ImageFont.load_default(FONT_SIZE)
    lead = 2 * gap if first_apart else 0
    step = TILE + 2 * frame + gap
    # Names contain parts of paths: any character, even line breaks and bytes that are not UTF-8
    lines = [printable(" ".join(name.split())) for name in names]
    above = FONT_SIZE + gap if lines else 0
    photos_end = max(len(row) for row in rows) * step + lead
    width = max([photos_end, *(gap + math.ceil(font.getlength(line)) for line in lines)]) + gap
    sheet = Image.new("RGB", (width, len(rows) * (step + above) + gap), "white")
    for down, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((gap, gap + down * (step + above)), line, "black", font)
    for down, row in enumerate(rows):
        for across, (photo, colour) in enumerate(row):
            left, top = gap + across * step + (lead if across else 0), gap + above + down * (step + above)
            if colour:
                sheet.paste(colour, (left, top, left + TILE + 2 * frame, top + TILE + 2 * frame))
            tile = Image.fromarray(photo).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + frame, top + frame))
    return sheet


def png(picture: Pixels | Image.Image) -> bytes:
    """As a PNG file."""
    raw = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(raw, "PNG", optimize=True)
    return raw.getvalue()


def thumbnail(photo: Pixels, longest: int) -> bytes:
    """As a JPEG file of at most ``longest`` pixels a side."""
    image = Image.fromarray(photo)
    image.thumbnail((longest, longest))
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=85)
    return raw.getvalue()
