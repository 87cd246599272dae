"""The perceptual hash: against the DCT written out, and near itself whatever is done that keeps the picture."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from milvus_fghash.images import Preprocessing, open_rgb
from milvus_fghash.perceptual import (
    ALIKE,
    UNKNOWN,
    perceptual_hash,
    phash_distance,
    phash_from_hex,
    phash_to_hex,
)


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Large soft patches of colour, as photos have them."""
    patches = np.random.default_rng(seed).integers(40, 210, (6, 8, 3), np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int = 90, **more: object) -> bytes:
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=quality, **more)
    return raw.getvalue()


def distance(one: Image.Image, other: Image.Image) -> int:
    found = phash_distance(perceptual_hash(one), perceptual_hash(other))
    assert found is not None
    return found


def test_against_the_dct_written_out() -> None:
    image = scene(0)
    pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.HAMMING, reducing_gap=2.5)).tolist()
    waves = [[math.cos(math.pi * k * (2 * n + 1) / 64) for n in range(32)] for k in range(8)]
    frequencies = [
        round(sum(pixels[y][x] * waves[down][y] * waves[across][x] for y in range(32) for x in range(32)))
        for down in range(8)
        for across in range(8)
    ]
    middle = (sorted(frequencies)[31] + sorted(frequencies)[32]) / 2
    expected = "".join("1" if value > middle else "0" for value in frequencies)
    assert phash_to_hex(perceptual_hash(image)) == f"{int(expected, 2):016x}"
    assert 24 < expected.count("1") <= 32


@pytest.mark.parametrize("number", [UNKNOWN, 1, -1, 2**63 - 1, -(2**63)])
def test_hexadecimal_digits_come_back(number: int) -> None:
    assert phash_from_hex(phash_to_hex(number)) == number


def test_what_keeps_the_picture_keeps_the_hash() -> None:
    image = scene(1)
    for same in (
        open_rgb(as_jpeg(image, 30)),
        image.resize((160, 120)),
        image.convert("L").convert("RGB"),
        ImageEnhance.Brightness(image).enhance(1.2),
        ImageEnhance.Contrast(image).enhance(1.3),
    ):
        assert distance(image, same) <= ALIKE
    for other in (scene(2), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.rotate(90)):
        assert distance(image, other) > 3 * ALIKE


@pytest.mark.parametrize("size", [(2000, 1500), (2003, 1507), (1031, 2777), (4096, 4096)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_scale_at_which_a_large_jpeg_is_decoded_does_not_matter(size: tuple[int, int], orientation: int) -> None:
    """Neither that of the bundle's `resize`, nor EXIF, nor a picture that ends inside a pixel after decoding."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = as_jpeg(scene(3, size), exif=exif)
    whole = open_rgb(raw)
    sizes = set()
    for resize in (64, 256, 400):
        reduced = open_rgb(raw, preprocessing=Preprocessing(size=64, resize=resize))
        sizes.add(reduced.size)
        assert distance(whole, reduced) <= 2
    assert len(sizes - {whole.size}) >= 1
    assert distance(whole, scene(3, size) if orientation == 1 else scene(3, size).rotate(-90, expand=True)) <= 2


def test_a_picture_that_shows_nothing_has_no_hash() -> None:
    """Noise would decide its bits, and all white pages would be one."""
    noise = np.random.default_rng(0).integers(250, 256, (600, 400, 3), np.uint8)
    blanks = [perceptual_hash(image) for image in (Image.new("RGB", (20, 20), "red"), Image.fromarray(noise))]
    assert blanks == [UNKNOWN, UNKNOWN]
    assert phash_distance(UNKNOWN, UNKNOWN) is None
    assert phash_distance(UNKNOWN, 7) is None
    assert perceptual_hash(scene(4, (1, 1))) == UNKNOWN
    assert perceptual_hash(scene(4, (3000, 3))) != UNKNOWN


def test_frequencies_that_are_zero_are_no_noise() -> None:
    """A picture of stripes has seven columns of zeros, of which rounding errors would make bits."""
    stripes = np.repeat(np.repeat(np.array([[40], [200], [90], [160]] * 4, np.uint8), 20, axis=0), 320, axis=1)
    image = Image.fromarray(stripes).convert("RGB")
    turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(image, turned) == 0
    assert perceptual_hash(image).bit_count() <= 8
