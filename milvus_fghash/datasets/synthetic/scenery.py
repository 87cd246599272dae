"""Background and light of a drawing. Both are independent of the kind of the bird."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SKY = np.array([(150, 190, 232), (206, 218, 230), (236, 214, 186)])
_LEAVES = np.array([(70, 106, 50), (112, 136, 64), (52, 74, 44), (146, 130, 78), (118, 98, 72)])
_SPOTS = np.array([(205, 36, 38), (24, 22, 24), (244, 206, 46), (240, 238, 228), (96, 132, 170)])
"""Berries, holes, blossoms in the colours of the birds' parts, so that a colour alone does not reveal the kind."""


def draw_background(size: int, rng: np.random.Generator) -> Image.Image:
    """Sky, foliage or bark out of focus with twigs and coloured spots: (size, size) RGB."""
    palette = _SKY if rng.random() < 0.4 else _LEAVES
    grain = int(rng.integers(2, 9))
    tones = rng.normal(0, 20, (grain, grain, 1)) + rng.normal(0, 7, (grain, grain, 3))
    coarse = palette[rng.integers(len(palette), size=(grain, grain))] + tones
    picture = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 10)):
        x, y, radius = rng.uniform(0, size, 3) * (1, 1, 0.12)
        colours = _SPOTS if rng.random() < 0.5 else _LEAVES
        red, green, blue = colours[rng.integers(len(colours))].tolist()
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))
    for _ in range(rng.integers(0, 4)):
        x0, y0, x1, y1 = rng.uniform(-0.2, 1.2, 4) * size
        draw.line((x0, y0, x1, y1), fill=(92, 74, 58), width=int(rng.integers(1, max(size // 16, 2) + 1)))
    return picture.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.004, 0.03)))


def light(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, tint, a gradient across the picture, and the noise of a sensor."""
    size = picture.width
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    down, across = rng.uniform(-0.45, 0.45, 2).astype(np.float32)
    shade = 1 + down * ramp[:, None] + across * ramp[None, :]
    tint = (rng.uniform(0.7, 1.2) * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
    noise = rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(rng.uniform(1, 7))
    pixels = np.asarray(picture, np.float32) * shade[..., None] * tint + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
