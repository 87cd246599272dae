"""Odd photos, as the bytes of their files: those that can be shown, and those that are rejected, with the reason."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.helpers.image_bytes import encode, noise, turned_by

TALL = Image.fromarray(np.repeat(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8), 24, axis=0).repeat(32, axis=1))
TURNED = turned_by(6)
LEVELS = Image.fromarray(np.linspace(0, 65535, 32 * 24).reshape(24, 32).astype(np.uint16))
TAKEN = {
    "1-pixel.png": encode(Image.new("RGB", (1, 1), "red")),
    "cmyk.jpg": encode(noise(32, 24).convert("CMYK"), "JPEG"),
    "palette.png": encode(noise(32, 24).quantize(16)),
    "16-bit.png": encode(LEVELS),
    "animated.gif": encode(noise(32, 24), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
    "exif.jpg": encode(TALL.rotate(90, expand=True), "JPEG", exif=TURNED, quality=95),
    "grey.jpg": encode(noise(32, 24).convert("L"), "JPEG"),
    "transparent.webp": encode(noise(32, 24).convert("RGBA"), "WEBP"),
}
REJECTED = {
    "text.jpg": (b"this is no photo", "format"),
    "cut.jpg": (encode(noise(64, 48), "JPEG")[:2000], "truncated"),
    "zero.jpg": (b"", "empty"),
    "bomb.png": (encode(Image.new("1", (200, 200))), "bomb"),
    "float.tiff": (encode(Image.new("F", (8, 8)), "TIFF"), "format"),
}
