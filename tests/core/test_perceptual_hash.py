"""The perceptual hash: against its sums written out, near itself whatever keeps the picture, far from other colours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from milvus_fghash.core.images import Preprocessing, open_rgb
from milvus_fghash.core.perceptual_hash import (
    MAX_COPY_DISTANCE,
    NO_HASH,
    perceptual_hash,
    phash_distance,
    phash_from_hex,
    phash_to_hex,
)
from tests.helpers.drawn_scenes import BLUE, GREEN, PURPLE, RED, YELLOW, Colour, as_jpeg, scene, shirt


def distance(one: Image.Image, other: Image.Image) -> int:
    found = phash_distance(perceptual_hash(one), perceptual_hash(other))
    assert found is not None
    return found


def test_against_the_sums_written_out() -> None:
    image = scene(0)
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.HAMMING, reducing_gap=2.5), float).tolist()
    waves = [[math.cos(math.pi * k * (2 * n + 1) / 64) for n in range(32)] for k in range(8)]
    lowest = sorted((max(at), at) for at in ((down, k - down) for k in range(1, 7) for down in range(k + 1)))
    lowest = [(0, at) for _, at in sorted(lowest, key=lambda one: (sum(one[1]), one))]
    order = [at for _, at in lowest] + [(3, 4), (4, 3), (2, 5), (5, 2), (1, 6), (6, 1), (0, 7)]
    light, chroma = {}, {}
    for y in range(32):
        for x in range(32):
            red, green, blue = pixels[y][x]
            light[y, x] = 0.299 * red + 0.587 * green + 0.114 * blue
            chroma[y, x] = (
                0.5 * blue - 0.169 * red - 0.331 * green,
                0.5 * red - 0.419 * green - 0.081 * blue,
            )
    values = [round(sum(light[y, x] * waves[down][y] * waves[across][x] for y, x in light)) for down, across in order]
    middle = (sorted(values)[16] + sorted(values)[17]) / 2
    expected = "".join("1" if value > middle else "0" for value in values)
    assert 12 < expected.count("1") <= 17
    in_all = sum(math.hypot(*one) * (math.hypot(*one) + 2) for one in chroma.values())
    for down, across, steps in (
        (0, 0, (-0.7, -0.42, -0.09, 0.09, 0.42, 0.7)),
        (0, 2, (-0.06, 0.06)),
        (2, 0, (-0.06, 0.06)),
    ):
        for degrees in (105, 225, 345):
            turn, share = math.radians(degrees), 0.0
            for (y, x), (cb, cr) in chroma.items():
                projected = math.hypot(cb, cr) * (cb * math.cos(turn) + cr * math.sin(turn))
                share += projected * waves[down][y] * waves[across][x] / in_all
            expected += "".join("1" if share * (math.sqrt(2) if down + across else 1) > step else "0" for step in steps)
    assert phash_to_hex(perceptual_hash(image)) == f"{int(expected, 2):016x}"


@pytest.mark.parametrize("number", [NO_HASH, 1, -1, 2**63 - 1, -(2**63)])
def test_hexadecimal_digits_come_back(number: int) -> None:
    assert phash_from_hex(phash_to_hex(number)) == number


def test_what_keeps_the_picture_keeps_the_hash() -> None:
    image = scene(1)
    for same in (
        open_rgb(as_jpeg(image, 30)),
        image.resize((160, 120)),
        ImageEnhance.Brightness(image).enhance(1.2),
        ImageEnhance.Contrast(image).enhance(1.3),
    ):
        assert distance(image, same) <= MAX_COPY_DISTANCE
    for other in (scene(2), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.rotate(90)):
        assert distance(image, other) > 3 * MAX_COPY_DISTANCE


def turned(image: Image.Image, degrees: int) -> Image.Image:
    """To other hues."""
    hue, *others = image.convert("HSV").split()
    moved = hue.point(lambda value: (value + round(degrees * 256 / 360)) % 256)
    return Image.merge("HSV", (moved, *others)).convert("RGB")


@pytest.mark.parametrize("size", [1, 0.5, 0.3])
@pytest.mark.parametrize("ground", [(255, 255, 255), (235, 235, 232)])
def test_one_drawing_in_two_colours_is_two_pictures(size: float, ground: Colour) -> None:
    """Also where it fills a few percent of the picture. Products differ in nothing else."""
    shirts = [shirt(colour, size, ground) for colour in (RED, GREEN, BLUE, YELLOW, PURPLE)]
    shirts.append(shirts[0].convert("L").convert("RGB"))
    for number, one in enumerate(shirts):
        assert distance(one, open_rgb(as_jpeg(one, 60))) <= MAX_COPY_DISTANCE
        assert distance(one, one.resize((150, 150))) <= MAX_COPY_DISTANCE
        assert distance(one, ImageEnhance.Brightness(one).enhance(0.85)) <= MAX_COPY_DISTANCE
        for other in shirts[:number]:
            assert distance(one, other) > MAX_COPY_DISTANCE


def test_a_photo_in_other_colours_is_another() -> None:
    for seed in range(6):
        image = scene(seed)
        red, green, blue = image.split()
        for other in (
            Image.merge("RGB", (blue, green, red)),
            turned(image, 120),
            turned(image, 180),
            image.convert("L").convert("RGB"),
        ):
            assert distance(image, other) > MAX_COPY_DISTANCE


def test_a_grey_photo_has_the_same_colour_however_it_is_saved() -> None:
    """What chroma compression leaves in it decides no bit."""
    image = scene(7).convert("L").convert("RGB")
    rng = np.random.default_rng(7)
    tinted = np.clip(np.asarray(image, int) + rng.integers(-1, 2, (480, 640, 3)), 0, 255).astype(np.uint8)
    for same in (Image.fromarray(tinted), open_rgb(as_jpeg(image, 20)), open_rgb(as_jpeg(Image.fromarray(tinted), 50))):
        assert distance(image, same) <= MAX_COPY_DISTANCE
        assert (perceptual_hash(image) ^ perceptual_hash(same)) & (2**30 - 1) == 0


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
    assert blanks == [NO_HASH, NO_HASH]
    assert phash_distance(NO_HASH, NO_HASH) is None
    assert phash_distance(NO_HASH, 7) is None
    assert perceptual_hash(scene(4, (1, 1))) == NO_HASH
    assert perceptual_hash(scene(4, (3000, 3))) != NO_HASH


def test_frequencies_that_are_zero_are_no_noise() -> None:
    """A picture of stripes has seven columns of zeros, of which rounding errors would make bits."""

    def stripes(height: int) -> Image.Image:
        rows = np.resize(np.array([40, 200, 90, 160], np.uint8), 320 // height)
        return Image.fromarray(np.repeat(np.repeat(rows[:, None], height, axis=0), 320, axis=1)).convert("RGB")

    image = stripes(80)
    assert distance(image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    assert (perceptual_hash(image) & (2**64 - 1)) >> 30 != 0
    assert ((perceptual_hash(image) & (2**64 - 1)) >> 30).bit_count() <= 7
    assert perceptual_hash(stripes(20)) == NO_HASH  # so narrow that no low frequency sees them
