"""Drawings with what a perceptual hash looks at: soft patches of colour, shirts of one colour."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Large soft patches of colour, as photos have them."""
    patches = np.random.default_rng(seed).integers(40, 210, (6, 8, 3), np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int = 90, **more: object) -> bytes:
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=quality, **more)
    return raw.getvalue()


RED, GREEN, BLUE, YELLOW, PURPLE = (200, 30, 40), (30, 150, 60), (40, 70, 200), (240, 210, 50), (120, 40, 150)
Colour = tuple[int, int, int]


def shirt(colour: Colour, size: float = 1, ground: Colour = (255, 255, 255)) -> Image.Image:
    """One drawing in any colour; of a size of 1 it fills most of the picture."""
    image = Image.new("RGB", (400, 400), ground)
    draw = ImageDraw.Draw(image)
    outline = [(-50, -140), (50, -140), (150, -70), (110, -10), (70, -40), (70, 140)]
    outline += [(-x, y) for x, y in reversed(outline)]
    draw.polygon([(200 + x * size, 200 + y * size) for x, y in outline], fill=colour)
    draw.ellipse([200 + at * size for at in (-30, -160, 30, -120)], fill=ground)
    return image
